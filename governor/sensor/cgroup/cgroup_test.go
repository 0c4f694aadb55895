package cgroup

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
)

func TestParseMax(t *testing.T) {
	for text, want := range map[string]float64{"max 100000": 0, "150000 100000": 1.5, "1000 100000": 0.01} {
		cores, err := parseMax([]byte(text))
		require.NoError(t, err, "%q", text)
		require.InDelta(t, want, cores, 1e-12)
	}
	for _, text := range []string{"", "max", "max 0", "0 100000", "-1 100000", "x 100000", "100000"} {
		_, err := parseMax([]byte(text))
		require.Error(t, err, "%q", text)
	}
}

func TestParseGroup(t *testing.T) {
	group, ok := parseGroup([]byte("3:cpuset:/\n1:name=systemd:/a\n0::/user.slice/a b\n"))
	require.True(t, ok)
	require.Equal(t, "/user.slice/a b", group)
	_, ok = parseGroup([]byte("3:cpuset:/\n0::\n"))
	require.False(t, ok)
}

func TestParseMount(t *testing.T) {
	root, mount, ok := parseMount([]byte("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" +
		"41 31 0:38 /docker/x /sys/fs/cgroup/unified rw,relatime shared:3 - cgroup2 cgroup2 rw\n"))
	require.True(t, ok)
	require.Equal(t, [2]string{"/docker/x", "/sys/fs/cgroup/unified"}, [2]string{root, mount})
	for _, text := range []string{"", "41 31 0:38 / /sys - tmpfs x rw", "41 31 - cgroup2 x rw", "1 2 0:3 a b - cgroup2 x rw", "cgroup2 - cgroup2 "} {
		_, _, ok := parseMount([]byte(text))
		require.False(t, ok, "%q", text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("0::/user.slice\n"))
	f.Add([]byte("41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"))
	f.Add([]byte("150000 100000\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if cores, err := parseMax(text); err == nil {
			require.GreaterOrEqual(t, cores, 0.)
		}
		if group, ok := parseGroup(text); ok {
			require.Equal(t, byte('/'), group[0])
		}
		if root, mount, ok := parseMount(text); ok {
			require.True(t, filepath.IsAbs(root) && filepath.IsAbs(mount))
		}
	})
}

// Where our group is below what is mounted, and which limits are on the way.
func TestWhere(t *testing.T) {
	for _, tc := range []struct {
		name, group, mountRoot string
		dir                    string
		up                     int
	}{
		{"host", "/user.slice/user-1.slice", "/", "/sys/fs/cgroup/user.slice/user-1.slice", 2},
		{"root", "/", "/", "/sys/fs/cgroup", 0},
		{"own name space", "/", "/", "/sys/fs/cgroup", 0},
		{"container without one", "/docker/4f1c", "/docker/4f1c", "/sys/fs/cgroup", 0},
		{"group in a container", "/docker/4f1c/worker", "/docker/4f1c", "/sys/fs/cgroup/worker", 1},
		{"a name that only begins alike", "/docker/4f1c2", "/docker/4f1c", "/sys/fs/cgroup", 0},
		{"moved out of the name space", "/../../other", "/", "/sys/fs/cgroup", 0},
		{"mounted elsewhere", "/a", "/../x", "/sys/fs/cgroup", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, root, "proc/self/cgroup", "0::"+tc.group+"\n")
			write(t, root, "proc/self/mountinfo", "30 24 0:26 "+tc.mountRoot+" /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
			s := New(root)
			defer s.Close()
			dir, up := s.where(0)
			require.Equal(t, tc.dir, dir)
			require.Equal(t, tc.up, up)
		})
	}
}

func write(t *testing.T, root, name, content string) {
	path := filepath.Join(root, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
}

// The tightest quota on the way up counts, also one that comes later, and the group to which the process is moved.
func TestNested(t *testing.T) {
	root := t.TempDir()
	write(t, root, "proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	write(t, root, "proc/self/cgroup", "0::/a/b/c\n")
	write(t, root, "sys/fs/cgroup/a/cpu.max", "300000 100000\n")
	write(t, root, "sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
	write(t, root, "sys/fs/cgroup/a/b/c/cpu.max", "400000 100000\n")
	write(t, root, "sys/fs/cgroup/other/cpu.max", "max 100000\n")
	s := New(root)
	defer s.Close()
	cores := func(now time.Duration) governor.Reading { return s.Read(now)[0].Reading }
	require.Equal(t, 3., cores(0).Value)
	write(t, root, "sys/fs/cgroup/a/b/cpu.max", "50000 100000\n")
	require.Equal(t, 0.5, cores(time.Second).Value)
	write(t, root, "proc/self/cgroup", "0::/other\n")
	require.Equal(t, governor.Missing, cores(7*time.Second).Condition)
	require.ErrorIs(t, s.Read(8 * time.Second)[0].Err, errNoQuota)
}
