// Command peers measures dynofa beside other inference engines: the same networks, weights and image, one process
// per engine and network, taking turns. README.md says how, and how to add an engine.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == burnArgument {
		burn(os.Stdin)
		return
	}
	switch err := run(os.Args[1:], os.Stdout, os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errWrong):
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(2)
	}
}

// errWrong is the error of a measurement that ended well but for engines that compute something else.
var errWrong = errors.New("not all engines agree on the logits")

type options struct {
	networks, engines, busy string
	rounds, runs            int
	install                 bool
	json, markdown, plot    string
}

func parse(arguments []string, stderr io.Writer) (*options, error) {
	var o options
	f := flag.NewFlagSet("peers", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.networks, "networks", "", "comma-separated `names` of bench/networks; default all")
	f.StringVar(&o.engines, "engines", "", "comma-separated `names`; default all that are installed")
	f.StringVar(&o.busy, "busy", "w12_n2", "comma-separated `names` of networks to run while another process keeps a core busy")
	f.IntVar(&o.rounds, "rounds", 20, "rounds, in each of which every engine has its turn")
	f.IntVar(&o.runs, "runs", 6, "inferences of an engine in a round")
	f.BoolVar(&o.install, "install", false, "install what of requirements.txt is missing into .venv")
	f.StringVar(&o.json, "json", "", "`file` for everything measured, - for standard output instead of tables")
	f.StringVar(&o.markdown, "markdown", "", "`file` for the tables as a page")
	f.StringVar(&o.plot, "plot", "", "`file` (.svg or .png) for the picture of the ratios")
	if err := f.Parse(arguments); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q: expected flags only", f.Arg(0))
	}
	if o.rounds < 1 || o.runs < 1 || o.runs > 1000 {
		return nil, fmt.Errorf("-rounds %d -runs %d: expected 1 or more, and at most 1000 runs", o.rounds, o.runs)
	}
	return &o, nil
}

func names(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

func run(arguments []string, stdout, stderr io.Writer) error {
	o, err := parse(arguments, stderr)
	if err != nil {
		return err
	}
	list, err := choose(names(o.engines))
	if err != nil {
		return err
	}
	s, err := newShop()
	if err != nil {
		return err
	}
	if o.install {
		if err := s.install(stderr); err != nil {
			return err
		}
	}
	nets, err := s.networks(names(o.networks))
	if err != nil {
		return err
	}
	var busy []*network
	if o.busy != "" {
		if busy, err = s.networks(names(o.busy)); err != nil {
			return err
		}
	}

	r := &report{
		Machine: machine(), Date: time.Now().Format(time.DateOnly),
		Command: strings.Join(append([]string{"go run ."}, arguments...), " "),
		Rounds:  o.rounds, Runs: o.runs,
	}
	bar := progress(stderr, o.rounds*(len(nets)+len(busy)))
	p := plan{rounds: o.rounds, runs: o.runs, threads: []int{1, 2}}
	p.progress = func() { _ = bar.Add(1) }
	p.warn = func(text string) {
		_ = bar.Clear()
		fmt.Fprintln(stderr, "SKIPPED:", text)
		if !slices.Contains(r.Skipped, text) {
			r.Skipped = append(r.Skipped, text)
		}
	}
	if runtime.NumCPU() < 2 {
		p.threads, busy = p.threads[:1], nil
		p.warn("two threads: this machine has one core")
	}
	if p.programs, p.engines, err = build(s, list, p.warn); err != nil {
		return err
	}
	program, err := s.buildPeak()
	if err != nil {
		return err
	}
	if p.peak, err = start("peak", program); err != nil {
		return err
	}
	defer p.peak.close()

	for _, n := range nets {
		bar.Describe(n.name)
		results, peaks, err := measure(s, n, p)
		if err != nil {
			return err
		}
		r.Networks = append(r.Networks, compare(n, p.engines, results, peaks))
	}
	for _, n := range busy {
		bar.Describe(n.name + ", a core busy")
		results, err := measureBusy(s, n, p)
		if err != nil {
			return err
		}
		r.Busy = append(r.Busy, compareBusy(n, p.engines, results))
	}
	_ = bar.Finish()
	r.summarise(p.engines, p.threads)
	if err := output(o, r, p.threads, stdout); err != nil {
		return err
	}
	return r.agree()
}

// build makes the programs of all engines that can be had here.
func build(s *shop, list []*engine, warn func(string)) (map[*engine][]string, []*engine, error) {
	programs := map[*engine][]string{}
	var there []*engine
	for i, e := range list {
		program, err := e.build(s)
		if err != nil && i == 0 {
			return nil, nil, fmt.Errorf("%s: %w", e.title, err)
		}
		if err != nil {
			warn(e.title + ": " + s.reason(err))
			continue
		}
		programs[e] = program
		there = append(there, e)
	}
	return programs, there, nil
}

// measureBusy is measure beside a process that keeps a core busy.
func measureBusy(s *shop, n *network, p plan) (map[string]*measured, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	burner, err := start("burner", []string{self, burnArgument})
	if err != nil {
		return nil, err
	}
	defer burner.close()
	p.peak = nil // would measure half a core
	results, _, err := measure(s, n, p)
	return results, err
}

const burnArgument = "burn"

// burn keeps one core busy until its input ends.
func burn(in io.Reader) {
	runtime.GOMAXPROCS(2)
	go func() {
		_, _ = io.Copy(io.Discard, in)
		os.Exit(0)
	}()
	for { //nolint:staticcheck // it is meant to spin
	}
}

// progress shows a bar on a terminal and nothing elsewhere.
func progress(w io.Writer, total int) *progressbar.ProgressBar {
	f, ok := w.(*os.File)
	if !ok {
		return progressbar.DefaultSilent(int64(total))
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return progressbar.DefaultSilent(int64(total))
	}
	return progressbar.NewOptions(total, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
}

// output prints the report and writes the files that were asked for.
func output(o *options, r *report, threads []int, stdout io.Writer) error {
	if o.plot != "" {
		if err := r.plot(o.plot, threads); err != nil {
			return err
		}
	}
	if o.markdown != "" {
		image := ""
		if o.plot != "" {
			rel, err := filepath.Rel(filepath.Dir(o.markdown), o.plot)
			if err != nil {
				return err
			}
			image = filepath.ToSlash(rel)
		}
		var page bytes.Buffer
		r.markdown(&page, threads, image)
		if err := os.WriteFile(o.markdown, page.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if o.json != "" {
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if o.json == "-" {
			_, err = stdout.Write(append(data, '\n'))
			return err
		}
		if err := os.WriteFile(o.json, data, 0o644); err != nil {
			return err
		}
	}
	r.write(stdout, threads, "", table.text)
	return nil
}

// machine names the processor: what Linux calls it, with the numbers that tell its generation.
func machine() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	field := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && field[strings.TrimSpace(key)] == "" {
			field[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	cores := strings.ToLower(plural(runtime.NumCPU(), "core"))
	if field["model name"] == "" {
		return cores + ", " + runtime.GOARCH
	}
	return fmt.Sprintf("%s of %s (family %s, model %s)", cores, field["model name"], field["cpu family"], field["model"])
}
