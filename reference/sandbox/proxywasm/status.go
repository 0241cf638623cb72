package proxywasm

// status is a proxy_status_t (Proxy-Wasm 0.2.1, Types).
type status uint32

const (
	statusOK              status = 0
	statusNotFound        status = 1
	statusBadArgument     status = 2
	statusParseFailure    status = 4
	statusInvalidMemory   status = 6
	statusInternalFailure status = 10
	statusUnimplemented   status = 12
)

// errno is a wasi_errno_t, of which the ABI names these.
type errno uint32

const (
	errnoSuccess errno = 0
	errnoBadf    errno = 8
	errnoFault   errno = 21
	errnoInval   errno = 28
	errnoNotsup  errno = 58
)

// action is a proxy_action_t.
type action uint32

const actionPause action = 1

// direction tells the request from the response. Its values are those of proxy_stream_type_t.
type direction int

const (
	request  direction = 0
	response direction = 1
)

// Values of proxy_map_type_t. A stream has the first four.
const (
	mapRequestHeaders   = 0
	mapRequestTrailers  = 1
	mapResponseHeaders  = 2
	mapResponseTrailers = 3
	mapHTTPCallTrailers = 7 // the last one that the ABI knows
)

// headersOf and trailersOf are the maps of a direction.
func headersOf(d direction) int  { return 2 * int(d) }
func trailersOf(d direction) int { return 2*int(d) + 1 }

// Values of proxy_buffer_type_t.
const (
	bufferRequestBody         = 0
	bufferResponseBody        = 1
	bufferVMConfiguration     = 6
	bufferPluginConfiguration = 7
	bufferForeignArguments    = 8 // the last one that the ABI knows
)

// maxLogLevel is CRITICAL of proxy_log_level_t.
const maxLogLevel = 5
