package main

import "testing"

func TestWordsAreWhatSpacesPart(t *testing.T) {
	if counted, _ := count(text{" two\nwords "}); counted.Words != 2 {
		t.Errorf("counted %d words, not 2", counted.Words)
	}
}
