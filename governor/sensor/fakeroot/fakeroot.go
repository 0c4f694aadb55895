// Package fakeroot makes directories that look like /proc and /sys of a board, for tests and demonstrations: recorded
// trees, and a player that changes them by a script. Each tree is an archive (txtar, because paths of sysfs may have a
// colon, which Go modules cannot hold) that begins with where it comes from.
package fakeroot

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/tools/txtar"
)

//go:embed testdata/*.txtar
var archives embed.FS

// Boards lists the recorded trees.
func Boards() []string {
	entries, err := archives.ReadDir("testdata")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".txtar"))
	}
	return names
}

// Root is a directory that stands in for "/".
type Root string

// Unpack writes the tree of a board into a directory.
func Unpack(board, dir string) (Root, error) {
	data, err := archives.ReadFile("testdata/" + board + ".txtar")
	if err != nil {
		return "", fmt.Errorf("fakeroot: no board %q, have %s", board, strings.Join(Boards(), ", "))
	}
	r := Root(dir)
	for _, f := range txtar.Parse(data).Files {
		if err := r.Write(f.Name, string(f.Data)); err != nil {
			return "", err
		}
	}
	return r, nil
}

// Path is where a file of the tree is.
func (r Root) Path(name string) string { return filepath.Join(string(r), filepath.FromSlash(name)) }

// Write gives a file a new content. As in sysfs, readers see the old one or the new one.
func (r Root) Write(name, content string) error {
	path := r.Path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("fakeroot: %w", err)
	}
	next := path + ".next"
	if err := os.WriteFile(next, []byte(content), 0o644); err != nil {
		return fmt.Errorf("fakeroot: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("fakeroot: %w", err)
	}
	return nil
}

// Remove takes a file or a directory away.
func (r Root) Remove(name string) error {
	if err := os.RemoveAll(r.Path(name)); err != nil {
		return fmt.Errorf("fakeroot: %w", err)
	}
	return nil
}

// Event is one change of a tree. Without content the file or directory is removed.
type Event struct {
	At      time.Duration
	Path    string
	Content string
}

// Script is a list of events in any order.
type Script []Event

// Set changes one file.
func Set(at time.Duration, path, content string) Script { return Script{{at, path, content}} }

// Remove removes a file or a directory.
func Remove(at time.Duration, path string) Script { return Script{{at, path, ""}} }

// Ramp lets the number in a file go from first to last, in steps of every, at the times from to until.
func Ramp(from, until, every time.Duration, path string, first, last int64) Script {
	return Text(from, until, every, path, first, last, func(v int64) string { return strconv.FormatInt(v, 10) + "\n" })
}

// Text is a Ramp of a number that the file has in a text, as counters in /proc have.
func Text(from, until, every time.Duration, path string, first, last int64, text func(int64) string) Script {
	var s Script
	for at := from; at <= until; at += every {
		s = append(s, Event{at, path, text(first + int64(float64(last-first)*float64(at-from)/float64(max(until-from, 1))))})
	}
	return s
}

// Stairs gives a file one number after the other, every so often.
func Stairs(from, every time.Duration, path string, values ...int64) Script {
	var s Script
	for i, v := range values {
		s = append(s, Event{from + time.Duration(i)*every, path, strconv.FormatInt(v, 10) + "\n"})
	}
	return s
}

// Unplug takes a CPU off-line: it is not in the list that stays on-line, and its own clock policy goes.
func Unplug(at time.Duration, cpu int, online string) Script {
	n := strconv.Itoa(cpu)
	return slices.Concat(
		Set(at, "sys/devices/system/cpu/cpu"+n+"/online", "0\n"),
		Set(at, "sys/devices/system/cpu/online", online+"\n"),
		Remove(at, "sys/devices/system/cpu/cpufreq/policy"+n))
}

// Player plays a script on a tree.
type Player struct {
	root Root
	left Script
}

// Play begins a script.
func (r Root) Play(scripts ...Script) *Player {
	left := slices.Concat(scripts...)
	slices.SortStableFunc(left, func(a, b Event) int { return int(a.At - b.At) })
	return &Player{r, left}
}

// Next makes all changes that are due at the time now.
func (p *Player) Next(now time.Duration) error {
	for len(p.left) > 0 && p.left[0].At <= now {
		e := p.left[0]
		p.left = p.left[1:]
		change := func() error { return p.root.Write(e.Path, e.Content) }
		if e.Content == "" {
			change = func() error { return p.root.Remove(e.Path) }
		}
		if err := change(); err != nil {
			return err
		}
	}
	return nil
}
