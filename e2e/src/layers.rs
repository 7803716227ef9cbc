//! The layers of an image for overlay mounts, in each form that the kernel understands.

use std::path::{Path, PathBuf};

use crate::command::shell;
use crate::operations::build_image;
use crate::overlay::Overlay;

/// How the layers say what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Directories; what a layer deletes is a character device 0:0.
    Plain,
    /// The same; the marks are in the user's name space.
    UserMarks,
    /// What a layer deletes is an empty file with the xattr `whiteout`, in a directory that is marked
    /// to have such; but one directory is not: then the name is listed, and there is nothing.
    XattrWhiteouts,
    /// Files have no data, but a redirect into a layer that holds nothing but data.
    DataOnly,
    /// One directory, which is an overlay mount itself.
    Nested,
}

impl Form {
    /// Returns why this kernel cannot mount it; `None` when it can.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        let needed = match self {
            Self::Plain | Self::UserMarks | Self::Nested => return None,
            Self::DataOnly => (6, 5),
            Self::XattrWhiteouts => (6, 8),
        };
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy();
        let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
        let version: (u32, u32) = (numbers.next()?, numbers.next()?);
        (version < needed).then(|| format!("{self:?} needs Linux {needed:?}, this is {release}"))
    }
}

/// The layers of one image, on a file system made for the test.
#[derive(Debug)]
pub struct Layers {
    lowers: Vec<PathBuf>,
    data_only: Vec<PathBuf>,
    // Mounted for as long as overlays are mounted over it.
    beneath: Option<Overlay>,
}

impl Layers {
    /// Makes an image of three layers beneath `base`.
    ///
    /// # Panics
    /// When a file cannot be made, or the kernel does not know the form.
    #[must_use]
    pub fn new(base: &Path, form: Form) -> Self {
        let lowers: Vec<PathBuf> = (1..=3).map(|n| base.join(format!("l{n}"))).collect();
        for layer in &lowers {
            std::fs::create_dir(layer).expect("layer");
        }
        build_image(&lowers.iter().map(PathBuf::as_path).collect::<Vec<&Path>>());
        let mut layers = Self {
            lowers,
            data_only: Vec::new(),
            beneath: None,
        };
        match form {
            Form::Plain => {}
            Form::UserMarks => layers.turn_marks_into_the_users(),
            Form::XattrWhiteouts => layers.turn_whiteouts_into_xattrs(),
            Form::DataOnly => layers.move_data(&base.join("data")),
            Form::Nested => layers.mount_beneath(&base.join("beneath")),
        }
        layers
    }

    /// Mounts a new upper layer over them.
    ///
    /// # Panics
    /// When a mount fails.
    #[must_use]
    pub fn mount(&self, base: &Path, options: &str) -> Overlay {
        Overlay::mount(base, &self.lowers, &self.data_only, options)
    }

    fn turn_marks_into_the_users(&self) {
        for layer in &self.lowers {
            let script = r"
                find . -type d | while read -r path; do
                    getfattr -n trusted.overlay.opaque $path > /dev/null 2>&1 || continue
                    setfattr -x trusted.overlay.opaque $path
                    setfattr -n user.overlay.opaque -v y $path
                done";
            shell(&format!("cd {}; {script}", layer.display()));
        }
    }

    fn turn_whiteouts_into_xattrs(&self) {
        let mut turned = 0;
        for layer in &self.lowers {
            let script = r"
                find . -type c -printf '%T@ %p\n' | while read -r time path; do
                    [ $(stat -c %t:%T $path) = 0:0 ] || continue
                    rm $path; touch $path
                    setfattr -n trusted.overlay.whiteout -v '' $path
                    [ $path = ./lib/hidden ] || setfattr -n trusted.overlay.opaque -v x ${path%/*}
                    touch -d @$time $path ${path%/*}
                    echo $path
                done";
            let script = format!("cd {}; {script}", layer.display());
            turned += shell(&script).lines().count();
        }
        assert_eq!(turned, 3, "the whiteouts of the image");
    }

    fn move_data(&mut self, data: &Path) {
        for layer in &self.lowers {
            let script = r#"
                find . -type f -size +0 -printf '%i %s %T@ %p\n' | while read -r inode size time path; do
                    object=$(basename "$PWD")-$inode
                    [ ! -e "$DATA/objects/$object" ] || continue
                    cp --sparse=always "$path" "$DATA/objects/$object"
                    truncate -s 0 "$path"; truncate -s "$size" "$path"
                    setfattr -n trusted.overlay.metacopy -v '' "$path"
                    setfattr -n trusted.overlay.redirect -v "/objects/$object" "$path"
                    touch -d "@$time" "$path"
                done"#;
            let (layer, data) = (layer.display(), data.display());
            shell(&format!(
                "export DATA={data}; mkdir -p $DATA/objects; cd {layer}; {script}"
            ));
        }
        self.data_only = vec![data.to_owned()];
    }

    /// Mounts the layers, changes a little, and takes the whole for the one layer that there is.
    fn mount_beneath(&mut self, base: &Path) {
        std::fs::create_dir(base).expect("directory for the overlay beneath");
        let overlay = self.mount(base, "");
        shell(&format!(
            "cd {}; echo beneath > etc/beneath; rm etc/layer1; chmod 644 etc/other; rm -r tree2/sub; mkdir tree2/sub; echo s > tree2/sub/file",
            overlay.container().display()
        ));
        self.lowers = vec![overlay.container()];
        self.beneath = Some(overlay);
    }
}
