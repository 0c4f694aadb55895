package regress

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/bench/harness"
)

// TestMain stands in for a worker where a test starts itself as one: REGRESS_FAKE says how it behaves.
func TestMain(m *testing.M) {
	if mode, is := os.LookupEnv("REGRESS_FAKE"); is {
		os.Exit(fake(mode))
	}
	os.Exit(m.Run())
}

// fake answers as a worker whose inferences take "ns NUMBER", "restless NUMBER" (every burst another time, up to
// 20 % more) or that misbehaves.
func fake(mode string) int {
	kind, number, _ := strings.Cut(mode, " ")
	ns, _ := strconv.ParseFloat(number, 64)
	hello := harness.Hello{Protocol: harness.Protocol, Version: "v", Model: "m", Backend: "fake", Threads: 1, Levels: []string{"small", "large"}}
	switch kind {
	case "old":
		hello.Protocol = 99
	case "fewer":
		hello.Levels = hello.Levels[:1]
	case "mute":
		fmt.Fprintln(os.Stderr, "expected a model, got nothing")
		return 2
	}
	enc := json.NewEncoder(os.Stdout)
	_ = enc.Encode(hello)
	lines := bufio.NewScanner(os.Stdin)
	for burst := 0; lines.Scan(); burst++ {
		f := strings.Fields(lines.Text())
		n, _ := strconv.Atoi(f[2])
		b := harness.Burst{Wall: make([]int64, n), CPU: make([]int64, n)}
		// A process has its own place in memory, and so a speed of its own.
		seed := uint64(os.Getpid())*0x9e3779b97f4a7c15 + uint64(burst)*0xbf58476d1ce4e5b9
		for i := range n {
			seed = seed*6364136223846793005 + 1442695040888963407
			noise := 0.002 * float64(seed>>40) / (1 << 24)
			if kind == "restless" {
				noise += 0.2 * float64((burst*7+os.Getpid())%10) / 10
			}
			b.Wall[i] = int64(ns * (1 + noise))
		}
		switch kind {
		case "garbage":
			fmt.Println(`{"wall":"long"}`)
		case "short":
			b.Wall = b.Wall[1:]
			_ = enc.Encode(b)
		case "stuck":
			time.Sleep(time.Minute)
		case "zero":
			b.Wall[0] = 0
			_ = enc.Encode(b)
		default:
			_ = enc.Encode(b)
		}
	}
	return 0
}

func fakeSide(t *testing.T, mode string) *Side {
	if testing.Short() {
		t.Skip("SKIPPED: -short: starts itself, which an emulator cannot")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	return &Side{Name: mode, Argv: []string{self}, Env: []string{"REGRESS_FAKE=" + mode}}
}

var usual = Options{Limits: Limits{Effect: 0.02, Alpha: 0.01}, Seed: 1}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want Verdict
	}{
		{"ns 100000", "ns 100000", Same},
		{"ns 100000", "ns 105000", Regression},
		{"ns 105000", "ns 100000", Improvement},
		{"ns 100000", "ns 101000", Same}, // 1 % is certainly there and certainly less than the effect
	} {
		t.Run(c.a+" "+c.b, func(t *testing.T) {
			found, err := Compare(context.Background(), fakeSide(t, c.a), fakeSide(t, c.b), usual)
			require.NoError(t, err)
			require.Len(t, found.Rows, 2)
			for _, r := range found.Rows {
				require.Equal(t, c.want, r.Verdict, "%+v", r)
				require.LessOrEqual(t, r.Pairs, mostPairs)
				require.Equal(t, c.want != Same, r.Checked)
			}
			require.Equal(t, c.want, found.Verdict)
		})
	}
}

// Bursts that never agree cost pairs; they must not cost the rounds that an answer needs.
func TestRestlessBurstsAreEstimated(t *testing.T) {
	found, err := Compare(context.Background(), fakeSide(t, "restless 100000"), fakeSide(t, "restless 130000"), usual)
	require.NoError(t, err)
	for _, r := range found.Rows {
		require.GreaterOrEqual(t, r.Rounds, 2*leastRounds)
		require.LessOrEqual(t, r.Pairs, mostPairs)
		require.Equal(t, Regression, r.Verdict, "%+v", r)
	}
}

func TestWorkersThatMisbehave(t *testing.T) {
	good := "ns 100000"
	for mode, want := range map[string]string{
		"old":     "speaks protocol 99, expected 1",
		"mute":    "expected a model, got nothing",
		"fewer":   "has 1, expected as many",
		"garbage": "garbage: the worker said",
		"short":   "wall and 6 processor times, expected 6 each",
		"zero":    "expected more than nothing",
	} {
		_, err := Compare(context.Background(), fakeSide(t, good), fakeSide(t, mode), usual)
		require.ErrorContains(t, err, want, "%s", mode)
		require.NotContains(t, strings.TrimSpace(err.Error()), "panic")
	}
	_, err := Compare(context.Background(), &Side{Name: "x", Argv: []string{"/nowhere/dynofa"}}, fakeSide(t, good), usual)
	require.ErrorContains(t, err, "x: ")
	o := usual
	o.Levels = []int{2}
	_, err = Compare(context.Background(), fakeSide(t, good), fakeSide(t, good), o)
	require.ErrorContains(t, err, "no level 2, expected 0 to 1")
}

// Whoever interrupts a comparison is told so, and not that the worker is no good.
func TestInterruptedComparison(t *testing.T) {
	a, b := fakeSide(t, "ns 100000"), fakeSide(t, "stuck")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := Compare(ctx, a, b, usual)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotContains(t, err.Error(), "without a word")
}

func TestSelfTestCounts(t *testing.T) {
	l, err := SelfTest(context.Background(), fakeSide(t, "ns 100000"), usual, &harness.Environment{Fingerprint: "m"}, 3, func() {})
	require.NoError(t, err)
	require.Equal(t, 0, l.FalseAlarms)
	require.Equal(t, 6, l.Rows)
	require.Greater(t, l.Finds, 0.0)
	require.Less(t, l.Finds, 0.01)
}

func TestTailKeepsTheEnd(t *testing.T) {
	var s Tail
	require.Equal(t, "nothing", s.Last("nothing"))
	_, _ = s.Write([]byte(strings.Repeat("x", 10000) + "\nfirst\n"))
	_, _ = s.Write([]byte("last\n\n"))
	require.Equal(t, "last", s.Last("nothing"))
	require.LessOrEqual(t, len(s.data), 4096)
}
