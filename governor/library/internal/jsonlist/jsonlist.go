// Package jsonlist reads files that are a list with a name: a JSON object, one key of which is an array of items.
package jsonlist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxBytes is what is read of a file, at most.
const maxBytes = 64 << 20

// Read reads the array under key at the top level, item by item, so that memory follows what is legal and not what is there. Other
// keys are ignored; the key given twice, text after the object and more than most items are errors. parse reads one item, and its error
// is passed on with the item's index.
func Read[T any](r io.Reader, key string, most int, parse func(*json.Decoder) (T, error)) ([]T, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxBytes {
		return nil, fmt.Errorf("larger than %d bytes", maxBytes)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("expected a JSON object with an array %q", key)
	}
	var items []T
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		if t != key {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return nil, fmt.Errorf("%.60q: %w", t, err)
			}
			continue
		}
		if items != nil {
			return nil, fmt.Errorf("%q is given twice", key)
		}
		if items, err = array(d, key, most, parse); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, fmt.Errorf("the object does not end: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more text after the JSON object")
	}
	if items == nil {
		return nil, fmt.Errorf("no %q, expected an array at the top level", key)
	}
	return items, nil
}

func array[T any](d *json.Decoder, key string, most int, parse func(*json.Decoder) (T, error)) ([]T, error) {
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf("%q is %v, expected an array", key, t)
	}
	items := []T{}
	for d.More() {
		if len(items) == most {
			return nil, fmt.Errorf("more than %d %s", most, key)
		}
		item, err := parse(d)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", key, len(items), err)
		}
		items = append(items, item)
	}
	if _, err := d.Token(); err != nil { // the closing bracket
		return nil, fmt.Errorf("%s[%d]: the array does not end: %w", key, len(items), err)
	}
	return items, nil
}
