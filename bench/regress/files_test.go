package regress

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// measured is a result file of levels, each with so many chunks of inferences that take about the given time.
func measured(t *testing.T, machine string, levels, chunks int, ns float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"format":"dynofa-bench","version":1,"environment":{"fingerprint":%q},"meter":"n/a"}`+"\n", machine)
	for level := range levels {
		fmt.Fprintf(&b, `{"row":{"model":"m","scenario":"singlestream","level":%d,"subnet":"s","resolution":8,"backend":"b","threads":1}}`+"\n", level)
		for i := range chunks {
			v := ns * (1 + 0.001*float64(i%5))
			fmt.Fprintf(&b, `{"chunk":{"row":%d,"images":1,"ns":[%.0f,%.0f],"seconds":0.5}}`+"\n", level, v, v*1.1)
		}
	}
	path := filepath.Join(t.TempDir(), "result.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
	return path
}

func TestCompareFiles(t *testing.T) {
	for name, c := range map[string]struct {
		levels, chunks int
		slower         float64
		want           Verdict
		note           string
	}{
		"same":                                  {2, 12, 0, Same, ""},
		"slower":                                {2, 12, 0.3, Regression, ""},
		"faster":                                {2, 12, -0.3, Improvement, ""},
		"few chunks":                            {1, 5, 0.3, Regression, ""},
		"too few chunks for the number of rows": {2, 5, 0.3, Inconclusive, "in so few chunks of 2 rows"},
		"few chunks of the same":                {2, 5, 0, Same, ""},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := CompareFiles(measured(t, "x", c.levels, c.chunks, 1e6), measured(t, "x", c.levels, c.chunks, 1e6*(1+c.slower)), usual.Limits)
			require.NoError(t, err)
			require.Len(t, found.Rows, c.levels)
			require.Equal(t, c.want, found.Verdict, "%+v", found.Rows)
			require.Contains(t, found.Rows[0].Note, c.note)
			require.Equal(t, c.note == "", found.Rows[0].Note == "")
			require.InDelta(t, c.slower, found.Rows[0].Change, 1e-3)
			require.Empty(t, found.Missing)
		})
	}
	three := measured(t, "x", 3, 12, 1e6)
	found, err := CompareFiles(three, measured(t, "x", 2, 12, 1e6), usual.Limits)
	require.NoError(t, err)
	require.Equal(t, Inconclusive, found.Verdict)
	require.Equal(t, []string{"singlestream/model=m/level=2/subnet=s/backend=b/threads=1"}, found.Missing)
	_, err = CompareFiles(three, measured(t, "y", 3, 12, 1e6), usual.Limits)
	require.ErrorContains(t, err, "of machine x and")
	_, err = CompareFiles(three, measured(t, "x", 3, 4, 1e6), usual.Limits)
	require.ErrorContains(t, err, "12 and 4 chunks, expected at least 5 each")
}
