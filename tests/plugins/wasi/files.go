// A guest that uses files by Go's standard library alone, as files.rs does by Rust's.
// Built with: GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags="-s -w" -o files.wasm files.go
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"unsafe"
)

func all() (done []string, err error) {
	defer func() {
		if failure, ok := recover().(error); ok {
			err = failure
		}
	}()
	must(os.MkdirAll("/out/a/b", 0o755))
	file := opened("/out/a/b/text", os.O_RDWR|os.O_CREATE|os.O_EXCL)
	_, err = file.WriteString("one\ntwo\n")
	must(err)
	_, err = file.Seek(4, io.SeekStart)
	must(err)
	rest, err := io.ReadAll(file)
	must(err)
	must(file.Close())
	done = append(done, strings.TrimSpace(string(rest)))
	more := opened("/out/a/b/text", os.O_WRONLY|os.O_APPEND)
	_, err = more.WriteString("three\n")
	must(err)
	must(more.Close())
	reading := opened("/out/a/b/text", os.O_RDONLY)
	for lines := bufio.NewScanner(reading); lines.Scan(); {
		done = append(done, lines.Text())
	}
	must(reading.Close())
	must(os.Rename("/out/a/b/text", "/out/moved"))
	whole, err := os.ReadFile("/out/moved")
	must(err)
	must(os.WriteFile("/out/copied", whole, 0o644))
	about, err := os.Stat("/out/copied")
	must(err)
	done = append(done, strconv.FormatInt(about.Size(), 10))
	entries, err := os.ReadDir("/out")
	must(err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	done = append(done, strings.Join(names, " "))
	must(os.RemoveAll("/out/a"))
	must(os.Remove("/out/moved"))
	for _, path := range []string{"/secret", "/out/none"} {
		_, err := os.ReadFile(path)
		done = append(done, kind(err))
	}
	return done, nil
}

func opened(path string, flags int) *os.File {
	file, err := os.OpenFile(path, flags, 0o644)
	must(err)
	return file
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func kind(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "PermissionDenied"
	case errors.Is(err, fs.ErrNotExist):
		return "NotFound"
	}
	return err.Error()
}

var kept [][]byte

//go:wasmexport allocate
func allocate(length int32) unsafe.Pointer {
	kept = append(kept, make([]byte, length+1))
	return unsafe.Pointer(&kept[len(kept)-1][0])
}

//go:wasmexport handle_request
func handleRequest(_, _ int32) int64 {
	done, err := all()
	if err != nil {
		done = []string{err.Error()}
	}
	answer, _ := json.Marshal(map[string]any{"success": true, "error": nil, "result": done})
	kept = append(kept, answer)
	return int64(uintptr(unsafe.Pointer(&answer[0])))<<32 | int64(len(answer))
}

func main() {}
