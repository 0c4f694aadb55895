package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// script starts a worker that is a shell script.
func script(t *testing.T, text string) *worker {
	t.Helper()
	w, err := start("script", []string{"sh", "-c", text})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.close() })
	return w
}

func TestProtocol(t *testing.T) {
	w := script(t, `echo '{"version":"1.2"}'
		while read -r what n; do case $what in
		run) [ "$n" = 2 ] && echo '{"wall":[1000000,2500000],"cpu":[900000,1]}' ;;
		logits) echo '{"logits":[1.5,-2e-3]}' ;;
		peak) echo '{"flops":2.5e11}' ;;
		esac; done`)
	version, err := w.version()
	require.NoError(t, err)
	require.Equal(t, "1.2", version)
	b, err := w.run(2)
	require.NoError(t, err)
	require.Equal(t, block{Wall: []float64{1, 2.5}, CPU: []float64{0.9, 1e-6}}, b)
	logits, err := w.logits(2)
	require.NoError(t, err)
	require.Equal(t, []float64{1.5, -2e-3}, logits)
	flops, err := w.peak(2)
	require.NoError(t, err)
	require.Equal(t, 2.5e11, flops)
	w.quiet()
	require.NoError(t, w.close())
}

// Whatever a worker says, the answer is an error that names it.
func TestHostileWorkers(t *testing.T) {
	run := func(w *worker) error { _, err := w.run(2); return err }
	logits := func(w *worker) error { _, err := w.logits(2); return err }
	version := func(w *worker) error { _, err := w.version(); return err }
	peak := func(w *worker) error { _, err := w.peak(1); return err }
	say := func(line string) string { return "printf '%s\\n' '" + line + "'; cat >/dev/null" }
	for _, tc := range []struct {
		name, script string
		ask          func(*worker) error
		want         string
	}{
		{"ends at once", "exit 3", run, "without a word"},
		{"ends with a reason", "echo loading >&2; echo no such file >&2; exit 1", version, "no such file"},
		{"ends before the question", "echo '{}'; exec <&-; exit 1", run, "0 of them, expected 2"},
		{"closes its output and stays", "exec sleep 60 >&-", run, "without a word"},
		{"leaves a process behind", "sleep 20 & exit 1", run, "no answer"},
		{"hangs", "exec sleep 60", run, "no answer"},
		{"no JSON", say("Segmentation fault"), run, "Segmentation fault"},
		{"half an object", say(`{"wall":[1,`), run, "unexpected EOF"},
		{"an object and more", say(`{"wall":[1,2],"cpu":[1,2]}{}`), run, "expected one"},
		{"another answer", say(`{"logits":[1,2]}`), run, "unknown field"},
		{"too few", say(`{"wall":[1],"cpu":[1,2]}`), run, "1 of them, expected 2"},
		{"too many", say(`{"wall":[1,2],"cpu":[1,2,3]}`), run, "3 of them, expected 2"},
		{"negative", say(`{"wall":[1,-2],"cpu":[1,2]}`), run, "-2 ns"},
		{"zero", say(`{"wall":[1,2],"cpu":[0,2]}`), run, "0 ns"},
		{"a century", say(`{"wall":[1,3000000000000000000],"cpu":[1,2]}`), run, "ns, expected"},
		{"beyond int64", say(`{"wall":[1,1e30],"cpu":[1,2]}`), run, "1e30"},
		{"text for a number", say(`{"wall":["1",2],"cpu":[1,2]}`), run, "string"},
		{"logits not a number", say(`{"logits":[1,NaN]}`), logits, "invalid character"},
		{"logits too large", say(`{"logits":[1,1e999]}`), logits, "1e999"},
		{"logits too few", say(`{"logits":[1]}`), logits, "1 logits, expected 2"},
		{"no version", say(`{"version":""}`), version, "version is"},
		{"version that breaks a table", say(`{"version":"a|b"}`), version, "version is"},
		{"no peak", say(`{"flops":0}`), peak, "0 FLOP/s"},
		{"a line without end", "yes | tr -d '\\n'", run, "token too long"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := script(t, tc.script)
			w.limit = time.Second
			began := time.Now()
			err := tc.ask(w)
			require.ErrorContains(t, err, tc.want)
			require.True(t, strings.HasPrefix(err.Error(), "script: "), "%v", err)
			_ = w.close()
			require.Less(t, time.Since(began), 20*time.Second, "close ends what does not end by itself")
		})
	}
}

func TestNoSuchProgram(t *testing.T) {
	_, err := start("nothing", []string{"./no-such-program"})
	require.ErrorContains(t, err, "no-such-program")
}
