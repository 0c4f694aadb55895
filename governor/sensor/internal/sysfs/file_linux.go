package sysfs

import "golang.org/x/sys/unix"

// handle is an open file descriptor plus one, so that the zero value is closed. It goes past package os, which
// would add some of procfs' files (those of PSI can be polled) to the runtime's poller.
type handle struct {
	fd   int
	stat unix.Stat_t
}

func (h *handle) open() bool { return h.fd > 0 }

func (h *handle) openFile(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	h.fd = fd + 1
	return nil
}

func (h *handle) pread(buf []byte, at int) (int, error) {
	for {
		n, err := unix.Pread(h.fd-1, buf, int64(at))
		if err != unix.EINTR { //nolint:errorlint // unix.Pread answers a bare Errno
			return n, err
		}
	}
}

// replaced tells that the path has another file by now or none: only files on a real file system (a fake root,
// a file bound over procfs) can be, and their last link goes with it. The kernel's own answer with an error.
func (h *handle) replaced() bool {
	return unix.Fstat(h.fd-1, &h.stat) == nil && h.stat.Nlink == 0
}

func (h *handle) close() {
	if h.open() {
		_ = unix.Close(h.fd - 1)
		h.fd = 0
	}
}
