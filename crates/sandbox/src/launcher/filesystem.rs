//! The file system that the command sees: a small read-only tmpfs with the system's folders, its own `/proc` and
//! `/tmp`, and the folders that the policy names.

use super::identity::{self, Identity};
use super::outside::{Refusal, refuse};
use crate::wire::{Report, Request};
use crate::{Layer, TMP, WORKSPACE, sys};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use std::io;
use std::path::{Component, Path, PathBuf};

/// On a merged-/usr system all but the first are symbolic links, which are copied as such.
pub(super) const SYSTEM_FOLDERS: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32"];
/// What a dynamic program or a Debian alternative needs of `/etc`; each only if the host has it.
const ETC: [&str; 3] = ["/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"];
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Everything that init writes into the root itself.
const ROOT_SIZE: &str = "256k";
/// One inode of `/tmp` for this many bytes of its size.
const BYTES_PER_INODE: u64 = 4096;

/// A mount taken from the host, not yet attached anywhere.
pub(super) struct Mount {
    pub(super) path: PathBuf,
    pub(super) is_folder: bool,
    pub(super) writable: bool,
    tree: OwnedFd,
}

/// The folders that the policy names.
pub(super) struct Mounts {
    /// Empty when they must be taken by init, since the launcher has no privilege.
    ready: Option<Vec<Mount>>,
}

/// What is to be taken from the host and how.
struct Wish<'a> {
    source: &'a Path,
    target: &'a Path,
    attributes: MountAttrFlags,
    layer: Layer,
}

fn wishes(request: &Request) -> Vec<Wish<'_>> {
    let guard = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let read_only = guard | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let writable = if request.allow_exec { guard } else { guard | MountAttrFlags::MOUNT_ATTR_NOEXEC };
    let workspace_attributes =
        if request.workspace_read_only { writable | MountAttrFlags::MOUNT_ATTR_RDONLY } else { writable };
    let layer = Layer::PivotRoot;
    let workspace = request.workspace.iter().map(|source| Wish {
        source: Path::new(source.as_os_str()),
        target: Path::new(WORKSPACE),
        attributes: workspace_attributes,
        layer,
    });
    let bind = |attributes| {
        move |path| {
            let path = Path::new(crate::wire::Text::as_os_str(path));
            Wish { source: path, target: path, attributes, layer }
        }
    };
    let mut wishes: Vec<_> = workspace
        .chain(request.read_only_binds.iter().map(bind(read_only)))
        .chain(request.read_write_binds.iter().map(bind(writable)))
        // Whatever lies below a system folder is visible anyway.
        .filter(|wish| {
            !wish.attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY)
                || !SYSTEM_FOLDERS.iter().any(|folder| wish.target.starts_with(folder))
        })
        .collect();
    // A folder comes before what lies in it, which would otherwise be covered.
    wishes.sort_by_key(|wish| wish.target.components().count());
    wishes
}

impl Mounts {
    /// For a root caller: takes the folders while they can still be reached, and maps their owner.
    pub(super) fn collect_outside(request: &Request, identity: &Identity) -> Result<Self, Refusal> {
        if !identity.privileged {
            return Ok(Self { ready: None });
        }
        let mut namespaces: Vec<((u32, u32), OwnedFd)> = Vec::new();
        let mut ready = Vec::new();
        for wish in wishes(request) {
            let (tree, stat) = wish.open()?;
            let owner = (stat.st_uid, stat.st_gid);
            let position = namespaces.iter().position(|(of, _)| *of == owner);
            let mapping = match position.and_then(|position| namespaces.get(position)) {
                Some((_, namespace)) => namespace.as_fd(),
                None => {
                    let namespace = identity::owner_namespace(identity, owner).map_err(refuse(
                        Layer::UnprivilegedUser,
                        "make a user namespace for a folder's owner",
                    ))?;
                    namespaces.push((owner, namespace));
                    namespaces.last().map(|(_, namespace)| namespace.as_fd()).ok_or_else(|| {
                        Report::Refused {
                            layer: Layer::UnprivilegedUser,
                            reason: "no user namespace for a folder's owner".to_owned(),
                        }
                    })?
                }
            };
            ready.push(wish.finish(tree, &stat, Some(mapping))?);
        }
        Ok(Self { ready: Some(ready) })
    }

    fn take(self, request: &Request) -> Result<Vec<Mount>, Refusal> {
        match self.ready {
            Some(ready) => Ok(ready),
            None => wishes(request)
                .into_iter()
                .map(|wish| {
                    let (tree, stat) = wish.open()?;
                    wish.finish(tree, &stat, None)
                })
                .collect(),
        }
    }
}

impl Wish<'_> {
    fn open(&self) -> Result<(OwnedFd, rustix::fs::Stat), Refusal> {
        let tree = copy_tree(self.source).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP => {
                Report::Invalid { reason: format!("cannot open {}: {error}", self.source.display()) }
            }
            error => refuse(self.layer, format!("take {}", self.source.display()))(error),
        })?;
        let stat = rustix::fs::fstat(&tree).map_err(refuse(self.layer, "look at a folder"))?;
        Ok((tree, stat))
    }

    fn finish(
        &self,
        tree: OwnedFd,
        stat: &rustix::fs::Stat,
        mapping: Option<BorrowedFd<'_>>,
    ) -> Result<Mount, Refusal> {
        let is_folder = FileType::from_raw_mode(stat.st_mode).is_dir();
        if self.target == Path::new(WORKSPACE) && !is_folder {
            return Err(Report::Invalid { reason: format!("{} is not a folder", self.source.display()) });
        }
        let writable = !self.attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY);
        let set = |mapping| sys::set_mount_attributes(tree.as_fd(), self.attributes.bits(), mapping);
        match (set(mapping), mapping) {
            (Ok(()), _) => {}
            // Without the mapping less can be read, never more.
            (Err(_), Some(_)) if !writable => {
                set(None).map_err(refuse(self.layer, format!("restrict {}", self.source.display())))?;
            }
            (Err(error), Some(_)) => {
                let operation = format!(
                    "map the owner of {} (its file system must support id-mapped mounts; or run as an ordinary user)",
                    self.source.display()
                );
                return Err(refuse(Layer::UnprivilegedUser, operation)(error));
            }
            (Err(error), None) => {
                return Err(refuse(self.layer, format!("restrict {}", self.source.display()))(error));
            }
        }
        Ok(Mount { path: self.target.to_owned(), is_folder, writable, tree })
    }
}

fn copy_tree(path: &Path) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags)
}

/// A system folder, a device or a file of `/etc`, or nothing if the host has none.
fn system_mount(path: &str, attributes: MountAttrFlags) -> io::Result<Option<Mount>> {
    let tree = match copy_tree(Path::new(path)) {
        Ok(tree) => tree,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let is_folder = FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode).is_dir();
    sys::set_mount_attributes(tree.as_fd(), attributes.bits(), None)?;
    Ok(Some(Mount { path: path.into(), is_folder, writable: false, tree }))
}

/// The root while it is being built.
struct Root {
    fd: OwnedFd,
}

impl Root {
    fn folder(&self, path: &Path) -> io::Result<()> {
        let mut done = PathBuf::new();
        for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
            done.push(part);
            match rustix::fs::mkdirat(&self.fd, &done, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn file(&self, path: &str, content: &str) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&self.fd, relative(Path::new(path)), flags, Mode::from_raw_mode(0o644))?;
        rustix::io::write(&file, content.as_bytes())?;
        Ok(())
    }

    fn link(&self, target: &str, path: &str) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.fd, relative(Path::new(path)))?)
    }

    fn attach(&self, mount: &Mount) -> io::Result<()> {
        if mount.is_folder {
            self.folder(&mount.path)?;
        } else {
            self.folder(mount.path.parent().unwrap_or(Path::new("/")))?;
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::openat(&self.fd, relative(&mount.path), flags, Mode::from_raw_mode(0o644))?;
        }
        self.attach_at(&mount.tree, &mount.path)
    }

    fn attach_at(&self, tree: &OwnedFd, path: &Path) -> io::Result<()> {
        Ok(move_mount(tree, "", &self.fd, relative(path), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn new_filesystem(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        fsconfig_set_string(&context, *name, *value)?;
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Builds the root, makes it the root, and lets go of the host's. Returns the policy's mounts, for Landlock.
pub(super) fn build(request: &Request, mounts: Mounts) -> Result<Vec<Mount>, Refusal> {
    fn pivot<E: std::fmt::Display>(operation: impl std::fmt::Display) -> impl FnOnce(E) -> Refusal {
        refuse(Layer::PivotRoot, operation)
    }
    let policy = mounts.take(request)?;
    let system = system_mounts().map_err(pivot("take the system's folders"))?;
    let guard = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let noexec = guard | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let fd = new_filesystem("tmpfs", &[("size", ROOT_SIZE), ("mode", "755")], noexec)
        .map_err(pivot("make a tmpfs for the root"))?;
    // The new root needs a place in the tree before anything can be attached to it; this one always exists, and what
    // lies there has been taken already.
    move_mount(&fd, "", CWD, "/tmp", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(pivot("attach the new root to /tmp"))?;
    let root = Root { fd };
    lay_out(&root, request, &system).map_err(pivot("lay out the new root"))?;
    let proc = new_filesystem(
        "proc",
        &[("hidepid", "2"), ("subset", "pid")],
        noexec | MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
    .map_err(refuse(Layer::PrivateProc, "make a /proc"))?;
    root.attach_at(&proc, Path::new("/proc")).map_err(refuse(Layer::PrivateProc, "attach /proc"))?;
    for mount in &policy {
        root.attach(mount).map_err(pivot(format!("attach {}", mount.path.display())))?;
    }
    sys_pivot(&root.fd).map_err(pivot("change the root"))?;
    // Not recursive: it is the root alone that is sealed.
    seal(noexec).map_err(pivot("make the root read-only"))?;
    Ok(policy)
}

fn system_mounts() -> io::Result<Vec<Mount>> {
    let guard = MountAttrFlags::MOUNT_ATTR_NOSUID;
    let read_only = guard | MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mut mounts = Vec::new();
    for path in SYSTEM_FOLDERS {
        if std::fs::read_link(path).is_err() {
            mounts.extend(system_mount(path, read_only)?);
        }
    }
    for path in ETC {
        mounts.extend(system_mount(path, read_only | MountAttrFlags::MOUNT_ATTR_NOEXEC)?);
    }
    for path in DEVICES {
        mounts.extend(system_mount(path, guard | MountAttrFlags::MOUNT_ATTR_NOEXEC)?);
    }
    Ok(mounts)
}

fn lay_out(root: &Root, request: &Request, system: &[Mount]) -> io::Result<()> {
    for folder in ["/etc", "/proc", "/dev", TMP] {
        root.folder(Path::new(folder))?;
    }
    for mount in system {
        root.attach(mount)?;
    }
    for path in SYSTEM_FOLDERS {
        if let Ok(target) = std::fs::read_link(path) {
            root.link(&target.to_string_lossy(), path)?;
        }
    }
    let id = identity::INSIDE_ID;
    root.file("/etc/passwd", &format!("sandbox:x:{id}:{id}::{WORKSPACE}:/bin/sh\n"))?;
    root.file("/etc/group", &format!("sandbox:x:{id}:\n"))?;
    root.file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")?;
    root.file("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")?;
    for (target, path) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        // Shared memory and semaphores count against the size of /tmp.
        (TMP, "/dev/shm"),
    ] {
        root.link(target, path)?;
    }
    let guard = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let attributes = if request.allow_exec { guard } else { guard | MountAttrFlags::MOUNT_ATTR_NOEXEC };
    let bytes = request.limits.tmp_bytes;
    let inodes = (bytes / BYTES_PER_INODE).max(16);
    // Size 0 would mean unbounded.
    let options = [
        ("size", &*bytes.max(BYTES_PER_INODE).to_string()),
        ("nr_inodes", &*inodes.to_string()),
        ("mode", "1777"),
    ];
    root.attach_at(&new_filesystem("tmpfs", &options, attributes)?, Path::new(TMP))
}

fn sys_pivot(root: &OwnedFd) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    // Both names the same: the old root is stacked on the new one, and then taken off (see pivot_root(2), NOTES).
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

fn seal(attributes: MountAttrFlags) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount_remount};
    let mut flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    if attributes.contains(MountAttrFlags::MOUNT_ATTR_NOEXEC) {
        flags |= MountFlags::NOEXEC;
    }
    Ok(mount_remount("/", flags, c"")?)
}
