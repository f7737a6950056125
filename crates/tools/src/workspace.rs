//! The one folder that tools may touch.
//!
//! Every operation starts from an open handle of the folder and is resolved by the kernel beneath it (`openat2` with
//! `RESOLVE_BENEATH`, through cap-std), so there is no moment between a check and its use: `..`, absolute names and
//! symbolic links that lead outside are refused, also when they appear while the path is being walked.

use std::{
    ffi::OsString,
    io::Read,
    path::{Component, Path, PathBuf},
};

use cap_std::{
    ambient_authority,
    fs::{Dir, DirBuilder, DirBuilderExt, File, MetadataExt, OpenOptions, OpenOptionsExt, PermissionsExt},
};
use rustix::fs::{OFlags, RenameFlags};
use uuid::Uuid;

use crate::failure::Failure;

/// Where deleted things go.
pub(crate) const TRASH: &str = ".trash";
/// Longest path, in bytes.
const MAX_PATH_BYTES: usize = 1024;
/// Deepest path.
const MAX_DEPTH: usize = 32;

/// A path inside the workspace, as it was written and as it is used: relative, without `.` and `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkspacePath(PathBuf);

impl WorkspacePath {
    /// Parses what a caller wrote. `/workspace/x` is `x`, since that is where programs in the sandbox see it.
    pub(crate) fn parse(argument: &'static str, text: &str) -> Result<Self, Failure> {
        let bad = |reason: &str| Err(Failure::argument(argument, format!("`{}` {reason}", shown(text))));
        if text.len() > MAX_PATH_BYTES {
            return bad("is longer than 1,024 bytes");
        }
        if text.chars().any(|c| c.is_control()) {
            return bad("holds a control character");
        }
        let inside = match Path::new(text).strip_prefix(kamil_sandbox::WORKSPACE) {
            Ok(rest) => rest,
            Err(_) => Path::new(text),
        };
        let mut path = PathBuf::new();
        for component in inside.components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::CurDir => {}
                Component::ParentDir => {
                    return bad("holds `..`; paths are relative to the workspace and stay in it");
                }
                Component::RootDir | Component::Prefix(_) => {
                    return bad("is absolute; paths are relative to the workspace");
                }
            }
        }
        if path.components().count() > MAX_DEPTH {
            return bad("is more than 32 folders deep");
        }
        Ok(Self(path))
    }

    /// As [`parse`](Self::parse), but the workspace itself and the trash are refused: for what is written or moved.
    pub(crate) fn parse_target(argument: &'static str, text: &str) -> Result<Self, Failure> {
        let path = Self::parse(argument, text)?;
        if path.is_root() {
            return Err(Failure::argument(argument, "it names the workspace itself, not something in it"));
        }
        if path.is_trash() {
            return Err(Failure::argument(argument, "the trash is changed by file_ops.delete only"));
        }
        Ok(path)
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.as_os_str().is_empty()
    }

    fn is_trash(&self) -> bool {
        self.0.starts_with(TRASH)
    }

    /// What the file system is asked for.
    pub(crate) fn as_path(&self) -> &Path {
        if self.is_root() { Path::new(".") } else { &self.0 }
    }

    pub(crate) fn join(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    fn parent(&self) -> Self {
        Self(self.0.parent().map(Path::to_path_buf).unwrap_or_default())
    }

    fn name(&self) -> OsString {
        self.0.file_name().map(OsString::from).unwrap_or_default()
    }
}

impl std::fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_path().display().fmt(f)
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// An open workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: Dir,
    path: PathBuf,
}

impl Workspace {
    /// Opens the folder, making it (mode 0700) if it is missing.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let path = path.canonicalize()?;
        let root = Dir::open_ambient_dir(&path, ambient_authority())?;
        Ok(Self { root, path })
    }

    /// Where it is on this machine.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file for reading, and tells its size. Devices, pipes and sockets are refused without waiting
    /// for them, and so are files with a second name (hard links), which could be files of outside.
    pub(crate) fn open_file(&self, path: &WorkspacePath) -> Result<(File, u64), Failure> {
        self.open_checked("read", path, OpenOptions::new().read(true))
    }

    /// Opens a regular file for writing at its end, making it if it is missing.
    pub(crate) fn open_append(&self, path: &WorkspacePath) -> Result<(File, u64), Failure> {
        self.make_parents(path)?;
        self.open_checked("append to", path, OpenOptions::new().append(true).create(true))
    }

    fn open_checked(
        &self,
        operation: &str,
        path: &WorkspacePath,
        options: &mut OpenOptions,
    ) -> Result<(File, u64), Failure> {
        let shown = path.to_string();
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        options.custom_flags(i32::try_from(flags).unwrap_or_default());
        let file = self
            .root
            .open_with(path.as_path(), options)
            .map_err(|error| Failure::io(operation, &shown, &error))?;
        let metadata = file.metadata().map_err(|error| Failure::io(operation, &shown, &error))?;
        if metadata.is_dir() {
            return Err(Failure::failed(format!("cannot {operation} `{shown}`: it is a folder")));
        }
        if !metadata.is_file() {
            return Err(Failure::failed(format!("cannot {operation} `{shown}`: it is not a regular file")));
        }
        if metadata.nlink() != 1 {
            return Err(Failure::failed(format!(
                "cannot {operation} `{shown}`: it has more than one name (hard links) and could lie outside the workspace"
            )));
        }
        Ok((file, metadata.len()))
    }

    /// Whether something has this name, be it a broken link.
    pub(crate) fn contains(&self, path: &WorkspacePath) -> bool {
        self.root.symlink_metadata(path.as_path()).is_ok()
    }

    /// Reads a whole file of at most `limit` bytes.
    pub(crate) fn read(&self, path: &WorkspacePath, limit: u64) -> Result<Vec<u8>, Failure> {
        let (file, size) = self.open_file(path)?;
        let too_large = || Failure::failed(format!("`{path}` is larger than {limit} bytes, the limit"));
        if size > limit {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::io("read", &path.to_string(), &error))?;
        if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
    }

    /// Puts a file in place whole or not at all, durably. A symbolic link or a hard link of that name is replaced, not
    /// written through. Tells whether nothing was there before.
    pub(crate) fn write(&self, path: &WorkspacePath, bytes: &[u8], overwrite: bool) -> Result<bool, Failure> {
        use std::io::Write;

        let fault = |error: std::io::Error| Failure::io("write", &path.to_string(), &error);
        let folder = self.make_parents(path)?;
        let name = path.name();
        let before = folder.symlink_metadata(&name).ok();
        if before.as_ref().is_some_and(cap_std::fs::Metadata::is_dir) {
            return Err(Failure::failed(format!("cannot write `{path}`: it is a folder")));
        }
        let staged = format!(".{}.partial", Uuid::now_v7().simple());
        let write = || -> std::io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = folder.open_with(&staged, options.write(true).create_new(true))?;
            file.write_all(bytes)?;
            if let Some(before) = before.as_ref().filter(|before| before.is_file()) {
                let mode = before.permissions().mode() & 0o777;
                file.set_permissions(cap_std::fs::Permissions::from_mode(mode))?;
            }
            file.sync_all()?;
            let flags = if overwrite { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            rustix::fs::renameat_with(&folder, &staged, &folder, &name, flags)?;
            rustix::fs::fsync(&folder.open(".")?)?;
            Ok(())
        };
        write().map_err(|error| {
            // Nothing more can be done about a leftover than to try.
            let _ = folder.remove_file(&staged);
            fault(error)
        })?;
        Ok(before.is_none())
    }

    /// Gives something another name; an existing target stays as it is and fails the move, in one step of the kernel.
    pub(crate) fn rename(&self, from: &WorkspacePath, to: &WorkspacePath) -> Result<(), Failure> {
        let source = self
            .root
            .open_dir(from.parent().as_path())
            .map_err(|error| Failure::io("move", &from.to_string(), &error))?;
        source
            .symlink_metadata(from.name())
            .map_err(|error| Failure::io("move", &from.to_string(), &error))?;
        let target = self.make_parents(to)?;
        rustix::fs::renameat_with(&source, from.name(), &target, to.name(), RenameFlags::NOREPLACE).map_err(
            |error| match error {
                rustix::io::Errno::INVAL => {
                    Failure::failed(format!("cannot move `{from}` to `{to}`, which lies inside it"))
                }
                error => Failure::io("move to", &to.to_string(), &error.into()),
            },
        )
    }

    /// The entries of a folder, by name, at most `limit` and whether there are more.
    pub(crate) fn entries(&self, path: &WorkspacePath, limit: usize) -> Result<(Vec<Entry>, bool), Failure> {
        let fault = |error: std::io::Error| Failure::io("list", &path.to_string(), &error);
        let mut entries = Vec::new();
        for entry in self.root.read_dir(path.as_path()).map_err(fault)? {
            if entries.len() == limit {
                return Ok((entries, true));
            }
            let entry = entry.map_err(fault)?;
            // A file may vanish while its folder is listed.
            let Ok(metadata) = entry.metadata() else { continue };
            let kind = match metadata.file_type() {
                kind if kind.is_file() => EntryKind::File,
                kind if kind.is_dir() => EntryKind::Folder,
                kind if kind.is_symlink() => EntryKind::Link,
                _ => EntryKind::Other,
            };
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            entries.push(Entry { name, kind, bytes: metadata.len() });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((entries, false))
    }

    fn make_parents(&self, path: &WorkspacePath) -> Result<Dir, Failure> {
        let parent = path.parent();
        let fault = |error: std::io::Error| Failure::io("open the folder", &parent.to_string(), &error);
        if !parent.is_root() {
            self.root.create_dir_all(parent.as_path()).map_err(fault)?;
        }
        self.root.open_dir(parent.as_path()).map_err(fault)
    }

    /// Moves something to the trash, under the name of the moment, and tells where it is now.
    pub(crate) fn trash(&self, path: &WorkspacePath) -> Result<String, Failure> {
        let mut private = DirBuilder::new();
        private.mode(0o700);
        match self.root.create_dir_with(TRASH, &private) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Failure::io("make", TRASH, &error));
            }
            _ => {}
        }
        let moment = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let tail: String = Uuid::new_v4().simple().to_string().chars().take(8).collect();
        let to = WorkspacePath(Path::new(TRASH).join(format!("{moment}-{tail}")).join(path.name()));
        self.rename(path, &to)?;
        Ok(to.to_string())
    }

    /// Removes for good what has lain in the trash for longer than this; returns how many deletions that were.
    pub(crate) fn empty_trash(&self, older_than: jiff::SignedDuration) -> std::io::Result<usize> {
        let limit = jiff::Timestamp::now()
            .checked_sub(older_than)
            .map_err(std::io::Error::other)?
            .strftime("%Y%m%dT%H%M%SZ")
            .to_string();
        let trash = match self.root.open_dir(TRASH) {
            Ok(trash) => trash,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut removed = 0;
        for entry in trash.entries()? {
            let name = entry?.file_name();
            let old = name.to_str().is_some_and(|name| name < limit.as_str() && is_trash_name(name));
            if old {
                trash.remove_dir_all(&name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Whether this is a name that [`Workspace::trash`] gives: nothing else is removed.
fn is_trash_name(name: &str) -> bool {
    name.len() == 25
        && name.chars().enumerate().all(|(index, c)| match index {
            8 => c == 'T',
            15 => c == 'Z',
            16 => c == '-',
            17.. => c.is_ascii_hexdigit(),
            _ => c.is_ascii_digit(),
        })
}

/// Something in a folder.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: EntryKind,
    pub(crate) bytes: u64,
}

/// What an entry is; symbolic links are named, not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EntryKind {
    File,
    Folder,
    Link,
    Other,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> WorkspacePath {
        WorkspacePath::parse("path", text).unwrap()
    }

    #[test]
    fn paths_are_relative_and_stay_inside() {
        assert_eq!(path("a//b/./c").to_string(), "a/b/c");
        assert_eq!(path("/workspace/a").to_string(), "a");
        assert_eq!(path("/workspace").to_string(), ".");
        assert_eq!(path("%2e%2e/a").to_string(), "%2e%2e/a");
        for bad in
            ["..", "a/../../b", "/etc/passwd", "/workspace-evil/a", "/workspace/../etc", "a\0b", "a\nb"]
        {
            assert!(WorkspacePath::parse("path", bad).is_err(), "{bad:?}");
        }
        for bad in ["", ".", ".trash", ".trash/x", "/workspace/.trash/x"] {
            assert!(WorkspacePath::parse_target("path", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_folder_that_flips_to_a_link_never_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("f"), "secret").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(folder.path()).unwrap();
        let flip = folder.path().join("d");
        let plain = folder.path().join("plain");
        let link = folder.path().join("link");
        std::fs::create_dir(&plain).unwrap();
        std::fs::write(plain.join("f"), "inside").unwrap();
        symlink(outside.path(), &link).unwrap();
        // Without the confined lookup the link does lead out.
        assert_eq!(std::fs::read_to_string(link.join("f")).unwrap(), "secret");

        let stop = std::sync::atomic::AtomicBool::new(false);
        let order = std::sync::atomic::Ordering::SeqCst;
        let (mut read, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(order) {
                    std::fs::rename(&plain, &flip).unwrap();
                    std::fs::rename(&flip, &plain).unwrap();
                    std::fs::rename(&link, &flip).unwrap();
                    std::fs::rename(&flip, &link).unwrap();
                }
            });
            let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while (read < 200 || refused < 200) && std::time::Instant::now() < until {
                match workspace.read(&path("d/f"), 100) {
                    Ok(bytes) => {
                        assert_eq!(bytes, b"inside");
                        read += 1;
                    }
                    Err(failure) if failure.to_string().contains("outside") => refused += 1,
                    Err(_) => {}
                }
            }
            stop.store(true, order);
        });
        assert!(read > 0 && refused > 0, "{read} reads, {refused} refusals: the race was not run");
    }

    #[test]
    fn only_old_deletions_leave_the_trash() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(folder.path()).unwrap();
        std::fs::write(folder.path().join("new"), "x").unwrap();
        let kept = workspace.trash(&path("new")).unwrap();
        for name in ["20200101T000000Z-0123abcd", "20200101-mine"] {
            std::fs::create_dir(folder.path().join(TRASH).join(name)).unwrap();
        }
        assert_eq!(workspace.empty_trash(jiff::SignedDuration::from_hours(24)).unwrap(), 1);
        assert!(folder.path().join(kept).exists());
        assert!(folder.path().join(".trash/20200101-mine").exists());
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_workspace(parts in prop::collection::vec("[a.%~ ]{0,3}|\\.\\.|ln|/etc|/workspace|x", 0..6)) {
            let parent = tempfile::tempdir().unwrap();
            std::fs::write(parent.path().join("x"), "outside").unwrap();
            let root = parent.path().join("ws");
            let workspace = Workspace::open(&root).unwrap();
            symlink("..", root.join("ln")).unwrap();
            if let Ok(path) = WorkspacePath::parse_target("path", &parts.join("/")) {
                let _ = workspace.write(&path, b"inside", true);
                let _ = workspace.open_append(&path);
                let _ = workspace.rename(&path, &WorkspacePath(PathBuf::from("ln/y")));
                if let Ok(bytes) = workspace.read(&path, 100) {
                    prop_assert_eq!(bytes, b"inside");
                }
            }
            let mut names: Vec<_> =
                std::fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            prop_assert_eq!(names, vec![OsString::from("ws"), OsString::from("x")]);
            prop_assert_eq!(std::fs::read_to_string(parent.path().join("x")).unwrap(), "outside");
        }
    }
}
