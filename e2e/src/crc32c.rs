//! CRC-32C a bit at a time: the hash of Btrfs' names and, by default, of its data.

/// Continues a checksum over these bytes. No bits are flipped before or after.
#[must_use]
pub fn update(state: u32, bytes: &[u8]) -> u32 {
    let mut crc = state;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    crc
}

/// Alters `block` at `at`, and the four bytes at `patch`, so that its checksum stays what it was.
/// Anybody can: the checksum is linear.
///
/// # Panics
/// When the block is too short.
pub fn forge(block: &mut [u8], at: usize, patch: usize) {
    // What a set bit does to the checksum of a block of zeros.
    let effect = |byte: usize, bit: u32| {
        let mut zeros = vec![0; block.len()];
        zeros[byte] = 1 << bit;
        update(0, &zeros)
    };
    let mut wanted = effect(at, 0);
    // Gauss: each row is the effect of some of the 32 bits, with a leading bit of its own.
    let mut rows: Vec<(u32, u32)> = Vec::new();
    for bit in 0..32 {
        let mut row = (effect(patch + bit / 8, bit as u32 % 8), 1 << bit);
        for known in &rows {
            if row.0 & leading(known.0) != 0 {
                row = (row.0 ^ known.0, row.1 ^ known.1);
            }
        }
        assert_ne!(row.0, 0, "32 bits in a row are independent");
        rows.push(row);
    }
    let mut flipped = 0u32;
    for known in &rows {
        if wanted & leading(known.0) != 0 {
            wanted ^= known.0;
            flipped ^= known.1;
        }
    }
    assert_eq!(wanted, 0, "every effect can be had");
    block[at] ^= 1;
    for (byte, flip) in block[patch..].iter_mut().zip(flipped.to_le_bytes()) {
        *byte ^= flip;
    }
}

fn leading(value: u32) -> u32 {
    1 << value.ilog2()
}

#[cfg(test)]
mod tests {
    use super::{forge, update};

    #[test]
    fn the_check_value_of_the_catalogues() {
        assert_eq!(!update(!0, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn another_block_of_the_same_checksum() {
        let block: Vec<u8> = (0..4096u32).map(|n| (n * 7 % 251) as u8).collect();
        let mut other = block.clone();
        forge(&mut other, 100, 2000);
        assert_ne!(block, other);
        assert_eq!(update(!0, &block), update(!0, &other));
    }
}
