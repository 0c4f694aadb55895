package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// install puts every line of requirements.txt by itself into .venv, so that one that cannot be had leaves the others.
func (s *shop) install(stderr io.Writer) error {
	env := s.environments[0]
	python := s.python()
	if _, err := os.Stat(python); err != nil {
		if err := s.run(s.folder, "python3", "-m", "venv", env); err != nil {
			return err
		}
	}
	f, err := os.Open(filepath.Join(s.folder, "requirements.txt"))
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		requirement, _, _ := strings.Cut(lines.Text(), "#")
		arguments := strings.Fields(requirement)
		if len(arguments) == 0 {
			continue
		}
		arguments = append([]string{"-m", "pip", "install", "-q", "--disable-pip-version-check"}, arguments...)
		if err := s.run(s.folder, python, arguments...); err != nil {
			fmt.Fprintf(stderr, "SKIPPED: pip could not install %s: %v\n", strings.TrimSpace(requirement), err)
		}
	}
	return nil
}
