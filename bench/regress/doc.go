// Package regress tells whether one build, bundle or result is slower than another, how sure that is, and when it
// became so.
package regress
