//! Numbers and pieces taken from the front of a fuzzer's bytes.

/// What is left of a fuzzer's bytes. When nothing is left, numbers are zero.
#[derive(Debug, Clone, Copy)]
pub struct Input<'d>(&'d [u8]);

impl<'d> Input<'d> {
    /// Begins with all of them.
    #[must_use]
    pub fn new(data: &'d [u8]) -> Self {
        Self(data)
    }

    /// Returns what is left.
    #[must_use]
    pub fn rest(self) -> &'d [u8] {
        self.0
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Takes up to `count` bytes.
    pub fn take(&mut self, count: usize) -> &'d [u8] {
        let (head, tail) = self.0.split_at(count.min(self.0.len()));
        self.0 = tail;
        head
    }

    /// Takes what stands before the next `separator`, and the separator.
    pub fn until(&mut self, separator: u8) -> &'d [u8] {
        let length = self.0.iter().position(|b| *b == separator);
        let piece = self.take(length.unwrap_or(self.0.len()));
        self.take(1);
        piece
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Takes two bytes, the lower one first.
    pub fn u16(&mut self) -> u16 {
        u16::from(self.u8()) | u16::from(self.u8()) << 8
    }

    /// Takes four bytes, the lowest first.
    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    /// Takes eight bytes, the lowest first.
    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }
}
