// Command dynofa imports Once-for-All supernets, runs any of their sub-networks, and measures them. Each verb
// has a file of its own; "dynofa VERB --help" explains it.
//
// Exit codes: 0 fine, 1 the answer is no (beyond tolerance, regression), 2 wrong usage or input, 3 inconclusive. Errors
// go to stderr in one line: what, where, what was expected.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

type cli struct {
	Import    importCmd    `cmd:"" help:"Turn a checkpoint (.pth, .safetensors) into a bundle."`
	Info      infoCmd      `cmd:"" help:"Show a bundle's space and levels, and this build's engines."`
	Run       runCmd       `cmd:"" help:"Classify images."`
	Verify    verifyCmd    `cmd:"" help:"Compare logits with a reference file."`
	Score     scoreCmd     `cmd:"" help:"MACs, parameters, predicted accuracy and latency of sub-networks."`
	Profile   profileCmd   `cmd:"" help:"Measure the latency table of this device for a bundle."`
	Search    searchCmd    `cmd:"" help:"Find the most accurate sub-networks within a latency or a number of multiply-adds."`
	Predictor predictorCmd `cmd:"" help:"Train an accuracy predictor from measured sub-networks."`
	Calibrate calibrateCmd `cmd:"" help:"Estimate the batch normalisation of sub-networks and add them to a bundle as levels."`
	Eval      evalCmd      `cmd:"" help:"Measure top-1 and top-5 accuracy over a data set."`
	Build     buildCmd     `cmd:"" help:"Make a bundle with a library out of a supernet and training images: measure, learn, search, measure again."`
	Export    exportCmd    `cmd:"" help:"Write one sub-network as ONNX."`
	Govern    governCmd    `cmd:"" help:"Run a governor live on real inferences, under a load of its own making; compare policies."`
	Sim       simCmd       `cmd:"" help:"Play governors through scenarios on a virtual clock: every policy against an oracle."`
	Demo      demoCmd      `cmd:"" help:"Classify real images at every level, then switch levels while the CPU is taken away."`
	Version   versionCmd   `cmd:"" help:"Show the version."`
	Bench     benchCmd     `cmd:"" help:"Measure, compare and keep a history of speed."`
	Burn      burnCmd      `cmd:"" hidden:"" help:"Keep a CPU busy; the load of govern and demo."`
}

// env is what verbs get to know of the outside.
type env struct {
	stdout, stderr io.Writer
	terminal       bool // stdout is one
	// ctx ends with the first SIGINT or SIGTERM. To ask for it takes them over: until then, and from the second one on,
	// they end the process.
	ctx func() context.Context
}

// output keeps the first error of what is printed, which verbs do not look at line by line.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

const (
	exitNo           = 1 // the answer is no
	exitUsage        = 2 // wrong usage or input
	exitInconclusive = 3 // the answer is neither yes nor no
)

// negative is an error that means "no" and not "wrong input"; inconclusive means neither yes nor no.
type (
	negative     struct{ error }
	inconclusive struct{ error }
)

// lists are what help texts enumerate.
func lists() kong.Vars {
	return kong.Vars{"policies": names(simulated()), "livepolicies": names(liveOnes())}
}

func run(args []string, stdout, stderr io.Writer) (code int) {
	out, stop := &output{Writer: stdout}, func() {}
	defer func() { stop() }()
	e := &env{stdout: out, stderr: stderr, terminal: isTerminal(stdout), ctx: sync.OnceValue(func() (ctx context.Context) {
		ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		return ctx
	})}
	var c cli
	exited := false
	parser, err := kong.New(&c, kong.Name("dynofa"),
		kong.Description("One Once-for-All supernet as thousands of networks, in place."),
		kong.Writers(out, stderr),
		kong.Exit(func(n int) { code, exited = n, true }), // --help
		lists(),
		kong.Bind(e))
	if err != nil {
		panic(err) // the tags above are wrong
	}
	if len(args) > 0 && args[0] == "help" {
		args = append(args[1:], "--help")
	}
	parsed, err := parser.Parse(args)
	if len(args) == 0 {
		err = errors.New("no verb, expected one of those that dynofa help lists")
	}
	if exited {
		err = nil
	} else if err == nil {
		err = parsed.Run()
	}
	if err == nil {
		err = out.err
	}
	if err == nil {
		return code
	}
	message := err.Error()
	if !strings.HasPrefix(message, "dynofa: ") {
		message = "dynofa: " + message
	}
	fmt.Fprintln(stderr, strings.ReplaceAll(message, "\n", "; "))
	if errors.As(err, &negative{}) {
		return exitNo
	}
	if errors.As(err, &inconclusive{}) {
		return exitInconclusive
	}
	return exitUsage
}

// json prints v for machines.
func (e *env) json(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (e *env) printf(format string, args ...any) { fmt.Fprintf(e.stdout, format, args...) }
