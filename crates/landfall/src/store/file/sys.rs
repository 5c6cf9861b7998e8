//! Thin wrappers around the system calls of the file store.
//!
//! Names are always single names in an open directory, and a link in the last component is never
//! followed, so no call can reach outside the store; only [`open_place`] follows links, and opens nothing for
//! reading or writing. Interrupted calls are repeated. In test builds
//! every change is recorded in `crash_tests::journal`: the power-loss tests replay it, and the
//! crash tests kill the process at an entry.

use std::{
    fs::File,
    io::{self, IoSlice, Read as _, Seek as _, SeekFrom},
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use nix::sys::resource::{Resource, getrlimit};
use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, Stat},
    io::{Errno, retry_on_intr},
};

/// A usual limit of open files, and far more than there are lock files.
const PLENTY_OF_FILES: u64 = 1024;

/// Returns whether a disk has few files left. Some file systems do not limit their number.
pub(crate) fn inodes_are_scarce(dir: &Path) -> bool {
    let about = fs::statvfs(dir);
    about.is_ok_and(|about| about.f_files > 0 && about.f_favail < PLENTY_OF_FILES)
}

/// Returns whether connections need the open files that could be kept for speed.
pub(crate) fn open_files_are_scarce() -> bool {
    let limit = getrlimit(Resource::RLIMIT_NOFILE);
    limit.is_ok_and(|(limit, _)| limit < PLENTY_OF_FILES)
}

/// For example for a disk; preemption does not count. `None` where unknown.
pub(super) fn thread_waits() -> Option<std::ffi::c_long> {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
        Some(usage.voluntary_context_switches())
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(test)]
use {
    super::crash_tests::journal::{self, Op},
    std::os::fd::AsFd,
};

/// Records an operation in the journal of the tests; nothing in other builds.
macro_rules! trace {
    ($op:expr) => {
        #[cfg(test)]
        journal::record($op);
    };
}

/// `IOV_MAX` on all supported systems.
const MAX_SLICES: usize = 1024;

/// Equal if the file was neither changed nor replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub(super) struct FileVersion {
    dev: u64,
    pub(super) ino: u64,
    pub(super) size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
    pub(super) is_file: bool,
    pub(super) is_link: bool,
    pub(super) allocated: u64,
}

impl FileVersion {
    // The types of these fields differ between systems, so some casts are redundant.
    #[allow(clippy::unnecessary_cast)]
    fn new(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
            is_file: FileType::from_raw_mode(stat.st_mode as _) == FileType::RegularFile,
            is_link: FileType::from_raw_mode(stat.st_mode as _) == FileType::Symlink,
            allocated: u64::try_from(stat.st_blocks).unwrap_or_default() * 512,
        }
    }

    pub(super) fn modified(&self) -> SystemTime {
        time(self.modified)
    }

    /// The later change of the content of two files.
    pub(super) fn modified_last(&self, other: &Self) -> SystemTime {
        time(self.modified.max(other.modified))
    }

    /// Returns whether the bytes that `earlier` had are still there: the file is the same, and has only grown, or
    /// `is_complete` and has the same content.
    pub(super) fn continues(&self, earlier: &Self, is_complete: bool) -> bool {
        let is_same = self.is_same_file(earlier) && self.is_file;
        let is_unchanged = self.size == earlier.size && self.modified == earlier.modified;
        is_same && (is_unchanged || !is_complete && self.size >= earlier.size)
    }

    /// Returns whether both are of one file or directory.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// Changes of the content or the metadata.
    pub(super) fn changed(&self) -> SystemTime {
        time(self.changed)
    }
}

fn time((seconds, nanos): (i64, u32)) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    base.and_then(|base| base.checked_add(Duration::from_nanos(nanos.into())))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// `"."` is `dir` itself.
pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| {
        fs::openat(dir, name, flags, Mode::empty())
    })?)
}

/// Opens a file or directory by following all links, for nothing but to learn where it is.
pub(super) fn open_place(dir: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| {
        fs::openat(dir, path, flags, Mode::empty())
    })?)
}

/// Returns the path of an open file, which contains no link.
#[cfg(target_os = "linux")]
pub(super) fn real_path(file: BorrowedFd<'_>) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(target_vendor = "apple")]
pub(super) fn real_path(file: BorrowedFd<'_>) -> io::Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = fs::getpath(file)?.into_bytes();
    Ok(std::ffi::OsString::from_vec(path).into())
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(super) fn real_path(_: BorrowedFd<'_>) -> io::Result<PathBuf> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes one call, without leaving `dir` or following links. `None` where the system has no such call.
#[cfg(target_os = "linux")]
pub(super) fn open_dir_beneath(dir: BorrowedFd<'_>, path: &str) -> Option<io::Result<OwnedFd>> {
    use rustix::fs::ResolveFlags;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match retry_on_intr(|| fs::openat2(dir, path, flags, Mode::empty(), resolve)) {
        // An old kernel, a sandbox without the call, or a concurrent rename in the tree: the caller
        // walks instead.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => None,
        done => Some(done.map_err(Into::into)),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn open_dir_beneath(_: BorrowedFd<'_>, _: &str) -> Option<io::Result<OwnedFd>> {
    None
}

pub(super) fn make_dir(dir: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<()> {
    fs::mkdirat(dir, name, Mode::from_raw_mode(mode as _))?;
    trace!(Op::make_dir(dir, name));
    Ok(())
}

/// Fails if the name exists, also as a link.
pub(super) fn create_new(dir: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode as _);
    let file = retry_on_intr(|| fs::openat(dir, name, flags, mode))?;
    trace!(Op::create(dir, name, file.as_fd()));
    Ok(file)
}

pub(super) fn open_write(dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    open(dir, name, OFlags::WRONLY)
}

pub(super) fn open_update(dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    open(dir, name, OFlags::RDWR)
}

pub(super) fn open_read(dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    open(dir, name, OFlags::RDONLY)
}

fn open(dir: BorrowedFd<'_>, name: &str, access: OFlags) -> io::Result<OwnedFd> {
    // NONBLOCK: opening a pipe in the file's place must not block. Regular files ignore it.
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| {
        fs::openat(dir, name, flags, Mode::empty())
    })?)
}

pub(super) fn kind(dir: BorrowedFd<'_>, name: &str) -> io::Result<FileType> {
    let stat = retry_on_intr(|| fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?;
    Ok(FileType::from_raw_mode(stat.st_mode as _))
}

/// Opens nothing.
pub(super) fn leads_to_directory(dir: BorrowedFd<'_>, name: &str) -> bool {
    let found = retry_on_intr(|| fs::statat(dir, name, AtFlags::empty()));
    found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode as _) == FileType::Directory)
}

pub(super) fn stat(dir: BorrowedFd<'_>, name: &str) -> io::Result<FileVersion> {
    let stat = retry_on_intr(|| fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?;
    Ok(FileVersion::new(&stat))
}

/// Follows links.
pub(super) fn stat_path(path: &str) -> io::Result<FileVersion> {
    Ok(FileVersion::new(&retry_on_intr(|| fs::stat(path))?))
}

pub(super) fn stat_open(file: BorrowedFd<'_>) -> io::Result<FileVersion> {
    Ok(FileVersion::new(&fs::fstat(file)?))
}

/// Returns the maximum length of a name in the file system of an open directory, in bytes.
pub(super) fn name_max(dir: BorrowedFd<'_>) -> Option<u64> {
    Some(fs::fstatvfs(dir).ok()?.f_namemax)
}

/// Returns how many bytes were written, and the error that stopped it.
pub(super) fn write_at(
    file: BorrowedFd<'_>,
    chunks: &[Bytes],
    offset: u64,
) -> (u64, io::Result<()>) {
    let mut written = 0;
    let mut rest = chunks;
    let mut skip = 0;
    loop {
        while let Some(first) = rest.first()
            && skip >= first.len()
        {
            skip -= first.len();
            rest = &rest[1..];
        }
        let Some((first, others)) = rest.split_first() else {
            return (written, Ok(()));
        };
        let result = if others.is_empty() {
            retry_on_intr(|| rustix::io::pwrite(file, &first[skip..], offset + written))
        } else {
            // On the stack, because most batches have few chunks.
            let mut few = [IoSlice::new(&[]); 16];
            let mut many = Vec::new();
            let count = rest.len().min(MAX_SLICES);
            let slices = if count <= few.len() {
                &mut few[..count]
            } else {
                many.resize(count, IoSlice::new(&[]));
                &mut many[..]
            };
            for (slice, chunk) in slices.iter_mut().zip(rest) {
                *slice = IoSlice::new(chunk);
            }
            slices[0] = IoSlice::new(&first[skip..]);
            retry_on_intr(|| rustix::io::pwritev(file, slices, offset + written))
        };
        match result {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                trace!(Op::write(file, offset + written, rest, skip, count));
                written += count as u64;
                skip += count;
            }
            Err(error) => return (written, Err(error.into())),
        }
    }
}

/// Makes one call unless the system writes less.
pub(super) fn write_from(file: BorrowedFd<'_>, content: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < content.len() {
        let at = offset + done as u64;
        match retry_on_intr(|| rustix::io::pwrite(file, &content[done..], at))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => {
                trace!(Op::write_plain(file, at, &content[done..done + count]));
                done += count;
            }
        }
    }
    Ok(())
}

pub(super) fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        let rest = &mut buffer[done..];
        match retry_on_intr(|| rustix::io::pread(file, &mut *rest, offset + done as u64))? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

pub(super) fn read_into(
    file: BorrowedFd<'_>,
    buffer: &mut BytesMut,
    len: usize,
    offset: u64,
) -> io::Result<()> {
    let start = buffer.len();
    buffer.resize(start + len, 0);
    let count = read_at(file, &mut buffer[start..], offset);
    buffer.truncate(start + *count.as_ref().unwrap_or(&0));
    count.map(drop)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CachedRead {
    Done,
    NotCached,
    Unknown,
}

#[cfg(target_os = "linux")]
pub(super) fn read_cached(
    file: BorrowedFd<'_>,
    buffer: &mut BytesMut,
    len: usize,
    offset: u64,
) -> CachedRead {
    use rustix::io::ReadWriteFlags;
    let start = buffer.len();
    buffer.resize(start + len, 0);
    let mut slices = [io::IoSliceMut::new(&mut buffer[start..])];
    let read =
        retry_on_intr(|| rustix::io::preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT));
    buffer.truncate(start + read.unwrap_or(0));
    match read {
        Ok(1..) => CachedRead::Done,
        Err(Errno::AGAIN) => CachedRead::NotCached,
        // The end of the file or an error; a blocking read reports it again.
        _ => CachedRead::Unknown,
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn read_cached(_: BorrowedFd<'_>, _: &mut BytesMut, _: usize, _: u64) -> CachedRead {
    CachedRead::Unknown
}

/// Releases space reserved beyond the end, too. Never extends a file here.
pub(super) fn truncate(file: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    retry_on_intr(|| fs::ftruncate(file, len))?;
    trace!(Op::truncate(file, len));
    Ok(())
}

pub(super) fn sync_data(file: BorrowedFd<'_>) -> io::Result<()> {
    #[cfg(not(target_vendor = "apple"))]
    retry_on_intr(|| fs::fdatasync(file))?;
    #[cfg(target_vendor = "apple")]
    retry_on_intr(|| fs::fcntl_fullfsync(file))?;
    trace!(Op::sync_file(file));
    Ok(())
}

/// File systems without this operation return EINVAL.
pub(super) fn sync_dir(dir: BorrowedFd<'_>) -> io::Result<()> {
    match retry_on_intr(|| fs::fsync(dir)) {
        Ok(()) | Err(Errno::INVAL | Errno::BADF) => {
            trace!(Op::sync_dir(dir));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn rename(dir: BorrowedFd<'_>, from: &str, to: &str) -> io::Result<()> {
    fs::renameat(dir, from, dir, to)?;
    trace!(Op::rename(dir, from, to));
    Ok(())
}

/// False if there was none.
pub(super) fn unlink(dir: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => {
            trace!(Op::unlink(dir, name));
            Ok(true)
        }
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// `to` may be anywhere on the same file system; fails if it exists.
pub(super) fn link_out(dir: BorrowedFd<'_>, name: &str, to: &Path) -> io::Result<()> {
    Ok(retry_on_intr(|| {
        fs::linkat(dir, name, fs::CWD, to, AtFlags::empty())
    })?)
}

pub(super) fn is_same_file(dir: BorrowedFd<'_>, name: &str, path: &Path) -> io::Result<bool> {
    let one = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let other = fs::statat(fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// Does not change the size; false where not supported.
#[cfg(target_os = "linux")]
pub(super) fn reserve(file: BorrowedFd<'_>, len: u64) -> io::Result<bool> {
    use rustix::fs::FallocateFlags;
    match retry_on_intr(|| fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, len)) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV | Errno::PERM) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reserve(_: BorrowedFd<'_>, _: u64) -> io::Result<bool> {
    Ok(false)
}

#[cfg(target_os = "linux")]
pub(super) fn in_memory(dir: BorrowedFd<'_>) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    #[allow(clippy::unnecessary_cast)]
    fs::fstatfs(dir).is_ok_and(|about| [TMPFS, RAMFS].contains(&(about.f_type as u64)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn in_memory(_: BorrowedFd<'_>) -> bool {
    false
}

/// Returns whether only processes of this machine use the file system of a file, so that they see each other's locks.
#[cfg(target_os = "linux")]
pub(super) fn is_local(file: BorrowedFd<'_>) -> bool {
    /// btrfs, ext, XFS, tmpfs, ramfs, overlay, ZFS, F2FS, bcachefs, JFS, ReiserFS, NILFS.
    const LOCAL: [u32; 12] = [
        0x9123_683e,
        0xef53,
        0x5846_5342,
        0x0102_1994,
        0x8584_58f6,
        0x794c_7630,
        0x2fc1_2fc1,
        0xf2f5_2010,
        0xca45_1a4e,
        0x3153_464a,
        0x5265_4973,
        0x3434,
    ];
    #[allow(clippy::unnecessary_cast, clippy::cast_possible_truncation)]
    fs::fstatfs(file).is_ok_and(|about| LOCAL.contains(&(about.f_type as u32)))
}

/// Elsewhere locks belong to the process, and end with any of its files.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_local(_: BorrowedFd<'_>) -> bool {
    false
}

/// Gives a file the owner, mode and times of another one, as far as this process may.
pub(super) fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = fs::fstat(from)?;
    let own = fs::fstat(to)?;
    if (own.st_uid, own.st_gid) != (stat.st_uid, stat.st_gid) {
        let owner = (
            fs::Uid::from_raw(stat.st_uid),
            fs::Gid::from_raw(stat.st_gid),
        );
        let _ = fs::fchown(to, Some(owner.0), Some(owner.1));
    }
    let mode = Mode::from_raw_mode(stat.st_mode as _) & Mode::from_raw_mode(0o7777);
    let _ = fs::fchmod(to, mode);
    let time = |seconds, nanos| fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let times = fs::Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
    };
    Ok(fs::futimens(to, &times)?)
}

/// Copies bytes, within the kernel where that can, which may share blocks. Returns fewer at the end of the source.
pub(super) fn copy(
    mut source: File,
    from: u64,
    mut target: &File,
    to: u64,
    len: u64,
) -> io::Result<u64> {
    source.seek(SeekFrom::Start(from))?;
    target.seek(SeekFrom::Start(to))?;
    let copied = io::copy(&mut source.take(len), &mut target)?;
    #[cfg(test)]
    journal::record_fill(target.as_fd());
    Ok(copied)
}
