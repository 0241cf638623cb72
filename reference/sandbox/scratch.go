package sandbox

import (
	"io/fs"
	"path"
	"time"

	"github.com/tetratelabs/wazero/experimental/sys"
	wsys "github.com/tetratelabs/wazero/sys"
)

const (
	scratchBytes = 1 << 20 // of all files together
	scratchFiles = 64
)

// scratch is the directory that an instance finds preopened: empty, in memory, flat, and gone with the
// instance. There is no way from it to the host's files. Its files cannot seek.
type scratch struct {
	sys.UnimplementedFS
	files map[string]*content
	bytes int64
}

type content struct{ data []byte }

func newScratch() *scratch { return &scratch{files: map[string]*content{}} }

// OpenFile implements sys.FS for the root and for files directly in it.
func (s *scratch) OpenFile(name string, flag sys.Oflag, _ fs.FileMode) (sys.File, sys.Errno) {
	name = path.Clean("/" + name)[1:]
	if name == "" {
		if flag&(sys.O_WRONLY|sys.O_RDWR|sys.O_CREAT) != 0 {
			return nil, sys.EISDIR
		}
		return &openDir{s: s}, 0
	}
	c, ok := s.files[name]
	switch {
	case ok && flag&sys.O_CREAT != 0 && flag&sys.O_EXCL != 0:
		return nil, sys.EEXIST
	case flag&sys.O_DIRECTORY != 0 && ok:
		return nil, sys.ENOTDIR
	case !ok && flag&sys.O_CREAT == 0:
		return nil, sys.ENOENT
	case !ok && (len(s.files) >= scratchFiles || len(name) > 255 || path.Dir(name) != "."):
		return nil, sys.EPERM
	case !ok:
		c = &content{}
		s.files[name] = c
	}
	if flag&sys.O_TRUNC != 0 {
		s.bytes -= int64(len(c.data))
		c.data = nil
	}
	return &openFile{s: s, c: c, add: flag&sys.O_APPEND != 0, writes: flag&(sys.O_WRONLY|sys.O_RDWR) != 0}, 0
}

// Stat implements sys.FS.
func (s *scratch) Stat(name string) (wsys.Stat_t, sys.Errno) {
	f, errno := s.OpenFile(name, sys.O_RDONLY, 0)
	if errno != 0 {
		return wsys.Stat_t{}, errno
	}
	return f.Stat()
}

// Lstat implements sys.FS: there are no links.
func (s *scratch) Lstat(name string) (wsys.Stat_t, sys.Errno) { return s.Stat(name) }

// Unlink implements sys.FS.
func (s *scratch) Unlink(name string) sys.Errno {
	name = path.Clean("/" + name)[1:]
	c, ok := s.files[name]
	if !ok {
		return sys.ENOENT
	}
	s.bytes -= int64(len(c.data))
	delete(s.files, name)
	return 0
}

type openDir struct {
	sys.UnimplementedFile
	s *scratch
}

func (*openDir) IsDir() (bool, sys.Errno)              { return true, 0 }
func (*openDir) Close() sys.Errno                      { return 0 }
func (*openDir) Dev() (uint64, sys.Errno)              { return 0, 0 }
func (*openDir) Ino() (wsys.Inode, sys.Errno)          { return 0, 0 }
func (*openDir) Stat() (wsys.Stat_t, sys.Errno)        { return wsys.Stat_t{Mode: fs.ModeDir | 0o700}, 0 }
func (*openDir) Readdir(int) ([]sys.Dirent, sys.Errno) { return nil, 0 }

type openFile struct {
	sys.UnimplementedFile
	s      *scratch
	c      *content
	at     int64
	add    bool
	writes bool
}

func (*openFile) IsDir() (bool, sys.Errno)     { return false, 0 }
func (*openFile) Close() sys.Errno             { return 0 }
func (*openFile) Dev() (uint64, sys.Errno)     { return 0, 0 }
func (*openFile) Ino() (wsys.Inode, sys.Errno) { return 0, 0 }
func (*openFile) Sync() sys.Errno              { return 0 }
func (*openFile) Datasync() sys.Errno          { return 0 }
func (f *openFile) IsAppend() bool             { return f.add }

// Utimens implements sys.File: there are no times.
func (*openFile) Utimens(int64, int64) sys.Errno { return 0 }

// Stat implements sys.File. All times are the epoch's.
func (f *openFile) Stat() (wsys.Stat_t, sys.Errno) {
	return wsys.Stat_t{Mode: 0o600, Nlink: 1, Size: int64(len(f.c.data)), Mtim: time.Unix(0, 0).UnixNano()}, 0
}

// Read implements sys.File.
func (f *openFile) Read(buf []byte) (int, sys.Errno) {
	n, errno := f.Pread(buf, f.at)
	f.at += int64(n)
	return n, errno
}

// Pread implements sys.File.
func (f *openFile) Pread(buf []byte, off int64) (int, sys.Errno) {
	if off < 0 {
		return 0, sys.EINVAL
	}
	if off >= int64(len(f.c.data)) {
		return 0, 0
	}
	return copy(buf, f.c.data[off:]), 0
}

// Write implements sys.File.
func (f *openFile) Write(buf []byte) (int, sys.Errno) {
	if f.add {
		f.at = int64(len(f.c.data))
	}
	n, errno := f.Pwrite(buf, f.at)
	f.at += int64(n)
	return n, errno
}

// Pwrite implements sys.File.
func (f *openFile) Pwrite(buf []byte, off int64) (int, sys.Errno) {
	if !f.writes {
		return 0, sys.EBADF
	}
	if off < 0 || off > scratchBytes || int64(len(buf)) > scratchBytes {
		return 0, sys.EINVAL
	}
	if end := off + int64(len(buf)); end > int64(len(f.c.data)) {
		if errno := f.Truncate(end); errno != 0 {
			return 0, errno
		}
	}
	return copy(f.c.data[off:], buf), 0
}

// Truncate implements sys.File.
func (f *openFile) Truncate(size int64) sys.Errno {
	old := int64(len(f.c.data))
	switch {
	case !f.writes:
		return sys.EBADF
	case size < 0 || f.s.bytes+size-old > scratchBytes:
		return sys.EINVAL
	case size <= old:
		f.c.data = f.c.data[:size]
	default:
		f.c.data = append(f.c.data, make([]byte, size-old)...)
	}
	f.s.bytes += size - old
	return 0
}
