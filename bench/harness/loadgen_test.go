package harness

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// MLPerf's LoadGen itself, where bench/loadgen/build.sh has built it.

const loadGenFolder, shipped = "../../build/loadgen", "../../models/fashion"

// loadGen runs the driver.
func loadGen(t *testing.T, args ...string) string {
	driver := filepath.Join(loadGenFolder, "driver")
	if _, err := os.Stat(driver); err != nil {
		t.Skip("SKIPPED: no build/loadgen/driver: make bench-loadgen builds it")
	}
	out, err := exec.Command(driver, args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// asked runs LoadGen on the shipped model and returns its log.
func asked(t *testing.T, args ...string) (log map[string]any, stdout string) {
	folder := t.TempDir()
	images := filepath.Join(folder, "images")
	require.NoError(t, os.WriteFile(images, unzipped(t, "t10k-images-idx3-ubyte.gz"), 0o644))
	all := append([]string{filepath.Join(loadGenFolder, "libdynofabackend.so"), shipped + "/fashion.dofa", images, "--out", folder}, args...)
	stdout = loadGen(t, all...)
	text, err := os.ReadFile(filepath.Join(folder, "mlperf_log_detail.txt"))
	require.NoError(t, err)
	log = map[string]any{}
	for line := range bytes.Lines(text) {
		var entry struct {
			Key   string `json:"key"`
			Value any    `json:"value"`
		}
		require.NoError(t, json.Unmarshal(bytes.TrimPrefix(line, []byte(":::MLLOG ")), &entry), "%s", line)
		log[entry.Key] = entry.Value
	}
	return log, stdout
}

func unzipped(t *testing.T, name string) []byte {
	f, err := os.Open(filepath.Join(shipped, "test", name))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	data, err := io.ReadAll(z)
	require.NoError(t, err)
	return data
}

func TestMinQueriesOfLoadGenItself(t *testing.T) {
	const most = 300
	for _, p := range []float64{0.9, 0.99, 0.999} {
		lines := strings.Fields(loadGen(t, "--min-queries", fmt.Sprint(p), fmt.Sprint(most)))
		require.Len(t, lines, most+1)
		for over, text := range lines {
			n, err := strconv.Atoi(text)
			require.NoError(t, err)
			require.Equal(t, n, MinQueries(over, p), "%g, %d over", p, over)
		}
	}
}

func TestLoadGensVerdicts(t *testing.T) {
	fast := []string{"--level", "6", "--seconds", "0.5"}
	for _, c := range []struct {
		name  string
		args  []string
		valid bool
	}{
		{"singlestream", nil, true},
		{"multistream", nil, true},
		{"offline", []string{"--threads", "2"}, true},
		{"server", []string{"--qps", "2000", "--bound-ms", "2000"}, true},
		{"server", []string{"--qps", "2000", "--bound-ms", "0.001"}, false},
	} {
		log, _ := asked(t, slices.Concat(fast, []string{"--scenario", c.name}, c.args)...)
		want := map[bool]string{true: "VALID", false: "INVALID"}[c.valid]
		require.Equal(t, want, log["result_validity"], "%s %v: %v", c.name, c.args, log["result_invalid_reason"])
		if c.name == "server" { // our rule on LoadGen's numbers
			over, queries := int(log["result_overlatency_query_count"].(float64)), int(log["result_query_count"].(float64))
			require.Equal(t, c.valid, queries >= MinQueries(over, Server.percentile()), "%d of %d over", over, queries)
		}
	}
}

// The back-end gives LoadGen's accuracy run the answers that the shipped model's record promises.
func TestLoadGensAccuracyRun(t *testing.T) {
	labels := filepath.Join(t.TempDir(), "labels")
	require.NoError(t, os.WriteFile(labels, unzipped(t, "t10k-labels-idx1-ubyte.gz"), 0o644))
	_, out := asked(t, "--labels", labels)
	var right, of int
	_, line, _ := strings.Cut(out, "right ")
	_, err := fmt.Sscanf(line, "%d of %d", &right, &of)
	require.NoError(t, err, "%s", out)
	require.Equal(t, 1000, of)
	require.GreaterOrEqual(t, right, 940)
}

// LoadGen's latencies and ours are of one thing, the same number of images among it: in turns, until the ratios of median
// and p90 are known to 1 %. On a busy machine p90 is what others do.
func TestSingleStreamIsLoadGens(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: LoadGen is not measured beside our SingleStream")
	}
	const level, seconds, least, most = 6, 0.3, 12, 30
	m, err := Open(shipped+"/fashion.dofa", "", shipped+"/test")
	require.NoError(t, err)
	defer m.Close()
	if !strings.HasPrefix(m.Backend(), "native") {
		t.Skipf("SKIPPED: engine %s: the back-end's is native", m.Backend())
	}
	own := func() (p50, p90 float64) {
		var b bytes.Buffer
		w, err := NewWriter(&b, Look(os.DirFS("/"), "test", time.Now()), NoMeter)
		require.NoError(t, err)
		plan := Plan{Scenarios: []Scenario{SingleStream}, Levels: []int{level}, Threads: []int{1}, Duration: seconds * 1e9, System: os.DirFS("/")}
		require.NoError(t, Run(t.Context(), m, plan, w))
		res, err := Read(&b, "own")
		require.NoError(t, err)
		s := res.Rows[0].Summarize()
		return 1e6 * s.MedianMS, 1e6 * s.P90MS
	}
	theirs := func() (p50, p90 float64) {
		log, _ := asked(t, "--level", fmt.Sprint(level), "--seconds", fmt.Sprint(seconds), "--samples", fmt.Sprint(imagesInTurn))
		return log["result_50.00_percentile_latency_ns"].(float64), log["early_stopping_latency_ss"].(float64)
	}
	var p50, p90 ratios
	for n := 0; n < least || n < most && !(p50.known() && p90.known()); n++ {
		var a50, a90, b50, b90 float64
		if n%2 == 0 {
			a50, a90 = theirs()
			b50, b90 = own()
		} else {
			b50, b90 = own()
			a50, a90 = theirs()
		}
		p50, p90 = append(p50, a50/b50), append(p90, a90/b90)
	}
	for name, r := range map[string]ratios{"median": p50, "p90": p90} {
		middle, half := r.median()
		t.Logf("LoadGen's %s over ours: %.4f +- %.4f in %d turns", name, middle, half, len(r))
		if r.known() {
			require.InDelta(t, 1, middle, 0.02, name)
		}
	}
	if !p90.known() {
		t.Skip("SKIPPED: the machine is too busy to know p90 to 1 %")
	}
}

type ratios []float64

// median is also half the width of its 95 % interval, which lies between two order statistics.
func (r ratios) median() (middle, half float64) {
	sorted, n := slices.Sorted(slices.Values(r)), len(r)
	away := int(math.Ceil(0.98 * math.Sqrt(float64(n))))
	return sorted[n/2], (sorted[min(n-1, n/2+away)] - sorted[max(0, n/2-away)]) / 2
}

func (r ratios) known() bool {
	_, half := r.median()
	return half <= 0.01
}
