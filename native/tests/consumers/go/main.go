// Command consumer is a product in another module that opens a bundle.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/dynofa/dynofa/gofacade/dynofa"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	m, err := dynofa.Open(path, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	s, err := m.NewSession(nil)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Select(len(m.Levels()) - 1); err != nil {
		return err
	}
	r := s.Subnet().Resolution
	logits := make([]float32, m.Classes())
	if err := s.Run(context.Background(), make([]float32, r*r*3), logits); err != nil {
		return err
	}
	fmt.Printf("%s, %s: first logit %.4f\n", s.Backend(), engine(), logits[0])
	return nil
}
