package warren

import (
	"unsafe"
)

//go:wasmimport warren_v1 log
func hostLog(level int32, at unsafe.Pointer, size uint32)

//go:wasmimport warren_v1 host_call
func hostCallPacked(nameAt unsafe.Pointer, nameLen uint32, argsAt unsafe.Pointer, argsLen uint32) uint64

// held is what the host knows the address of, so that the collector leaves it alone.
var held = map[uint32][]byte{}

//go:wasmexport allocate
func allocate(size uint32) uint32 {
	return address(make([]byte, max(1, size)))
}

//go:wasmexport handle_request
func handleRequest(at, size uint32) uint64 {
	body := answerTo(taken(at, size))
	return uint64(address(body))<<32 | uint64(len(body))
}

//go:wasmexport initialize
func initializePlugin(at, size uint32) int32 {
	if err := initialize(taken(at, size)); err != nil {
		Errorf("%v", err)
		return 1
	}
	return 0
}

//go:wasmexport health_check
func healthCheck() int32 {
	if healthy() {
		return 1
	}
	return 0
}

func address(bytes []byte) uint32 {
	at := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(bytes))))
	held[at] = bytes
	return at
}

// taken is what the host wrote where allocate told it to.
func taken(at, size uint32) []byte {
	bytes := held[at][:size]
	delete(held, at)
	return bytes
}

func log(level int32, text string) {
	hostLog(level, unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

func hostCall(name string, args []byte) []byte {
	packed := hostCallPacked(
		unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)),
		unsafe.Pointer(unsafe.SliceData(args)), uint32(len(args)),
	)
	return taken(uint32(packed>>32), uint32(packed))
}
