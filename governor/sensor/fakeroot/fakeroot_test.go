package fakeroot

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"
)

// Every tree says where it comes from.
func TestOrigins(t *testing.T) {
	for _, board := range Boards() {
		data, err := archives.ReadFile("testdata/" + board + ".txtar")
		require.NoError(t, err)
		comment := string(txtar.Parse(data).Comment)
		captured, written := strings.Contains(comment, "Captured."), strings.Contains(comment, "not captured")
		require.True(t, captured != written || board == "nothing", "%s: %q", board, comment)
	}
	_, err := Unpack("toaster", t.TempDir())
	require.ErrorContains(t, err, `no board "toaster", have container, `)
}

func TestPlayer(t *testing.T) {
	r := Root(t.TempDir())
	read := func(name string) string {
		data, err := os.ReadFile(r.Path(name))
		if os.IsNotExist(err) {
			return "gone"
		}
		require.NoError(t, err)
		return string(data)
	}
	require.NoError(t, r.Write("sys/devices/system/cpu/cpufreq/policy3/scaling_max_freq", "9\n"))
	s := time.Second
	p := r.Play(
		Unplug(4*s, 3, "0-2"),
		Ramp(s, 3*s, s, "ramp", 10, 20),
		Stairs(s, 2*s, "stairs", 5, 7),
		Text(0, 2*s, s, "proc/pressure/cpu", 0, 200, func(v int64) string { return "some total=" + strings.Repeat("i", int(v/100)) }),
	)
	for _, tc := range []struct {
		now                         time.Duration
		ramp, stairs, total, policy string
	}{
		{0, "gone", "gone", "some total=", "9\n"},
		{s - 1, "gone", "gone", "some total=", "9\n"},
		{s, "10\n", "5\n", "some total=i", "9\n"},
		{3 * s, "20\n", "7\n", "some total=ii", "9\n"},
		{9 * s, "20\n", "7\n", "some total=ii", "gone"},
	} {
		require.NoError(t, p.Next(tc.now))
		require.Equal(t, tc.ramp, read("ramp"))
		require.Equal(t, tc.stairs, read("stairs"))
		require.Equal(t, tc.total, read("proc/pressure/cpu"))
		require.Equal(t, tc.policy, read("sys/devices/system/cpu/cpufreq/policy3/scaling_max_freq"))
	}
	require.Equal(t, "0-2\n", read("sys/devices/system/cpu/online"))
}
