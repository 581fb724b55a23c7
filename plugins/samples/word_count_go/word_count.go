// word_count: how many words a text has, and which it has most often.
package main

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"warren"
)

// most is how many of the most frequent words are told.
const most = 5

type text struct {
	Text string `json:"text"`
}

type words struct {
	Words        int         `json:"words"`
	Distinct     int         `json:"distinct"`
	MostFrequent []frequency `json:"most_frequent"`
}

type frequency struct {
	Word  string `json:"word"`
	Count int    `json:"count"`
}

func init() {
	warren.Handle("count", count)
}

func main() {}

func count(data text) (words, error) {
	all := strings.FieldsFunc(strings.Map(small, data.Text), isBetweenWords)
	if len(all) == 0 {
		return words{}, errors.New("there are no words in the text")
	}
	counts := map[string]int{}
	for _, word := range all {
		counts[word]++
	}
	frequencies := []frequency{}
	for word, count := range counts {
		frequencies = append(frequencies, frequency{word, count})
	}
	slices.SortFunc(frequencies, func(a, b frequency) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Word, b.Word))
	})
	warren.Infof("%d words, %d of them distinct", len(all), len(counts))
	return words{len(all), len(counts), frequencies[:min(most, len(frequencies))]}, nil
}

func small(c rune) rune {
	if 'A' <= c && c <= 'Z' {
		return c - 'A' + 'a'
	}
	return c
}

func isBetweenWords(c rune) bool {
	return c < 0x80 && !('a' <= c && c <= 'z' || '0' <= c && c <= '9')
}
