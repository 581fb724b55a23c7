//go:build !wasip1

package warren

import (
	"fmt"
	"os"
)

// Outside of a sandbox, as in go test: lines go to stderr, and there are no host functions.

func log(_ int32, text string) { fmt.Fprintln(os.Stderr, text) }

func hostCall(name string, _ []byte) []byte {
	return fmt.Appendf(nil, `{"error": {"code": "unavailable", "message": %q}}`, "there is no host here to call "+name+" of")
}
