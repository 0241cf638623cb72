package proxywasm

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/tetratelabs/wazero/api"
)

// abiModule is the module of the ABI's host functions.
const abiModule = "env"

// hostCall is a host function: its parameters by one letter each, i for i32 and l for i64, and what it
// does. All return a status. Without run it has no effect here and says so.
type hostCall struct {
	name   string
	params string
	run    func(*call) status
}

// hostCalls are all host functions of Proxy-Wasm 0.2.1 outside WASI, in the order of the specification.
var hostCalls = [...]hostCall{
	{"proxy_done", "", (*call).done},
	{"proxy_set_effective_context", "i", (*call).setEffectiveContext},
	{"proxy_log", "iii", (*call).log},
	{"proxy_get_log_level", "i", nil},
	{"proxy_get_current_time_nanoseconds", "i", (*call).currentTime},
	{"proxy_set_tick_period_milliseconds", "i", (*call).setTickPeriod},
	{"proxy_set_buffer_bytes", "iiiii", nil},
	{"proxy_get_buffer_bytes", "iiiii", (*call).getBufferBytes},
	{"proxy_get_buffer_status", "iii", nil},
	{"proxy_get_header_map_size", "ii", (*call).getMapSize},
	{"proxy_get_header_map_pairs", "iii", (*call).getMapPairs},
	{"proxy_set_header_map_pairs", "iii", (*call).setMapPairs},
	{"proxy_get_header_map_value", "iiiii", (*call).getMapValue},
	{"proxy_add_header_map_value", "iiiii", (*call).addMapValue},
	{"proxy_replace_header_map_value", "iiiii", (*call).replaceMapValue},
	{"proxy_remove_header_map_value", "iii", (*call).removeMapValue},
	{"proxy_continue_stream", "i", (*call).continueStream},
	{"proxy_close_stream", "i", (*call).closeStream},
	{"proxy_get_status", "iii", nil},
	{"proxy_send_local_response", "iiiiiiii", (*call).sendLocalResponse},
	{"proxy_http_call", "iiiiiiiiii", nil},
	{"proxy_grpc_call", "iiiiiiiiiiii", nil},
	{"proxy_grpc_stream", "iiiiiiiii", nil},
	{"proxy_grpc_send", "iiii", nil},
	{"proxy_grpc_cancel", "i", nil},
	{"proxy_grpc_close", "i", nil},
	{"proxy_set_shared_data", "iiiii", nil},
	{"proxy_get_shared_data", "iiiii", nil},
	{"proxy_register_shared_queue", "iii", nil},
	{"proxy_resolve_shared_queue", "iiiii", nil},
	{"proxy_enqueue_shared_queue", "iii", nil},
	{"proxy_dequeue_shared_queue", "iii", nil},
	{"proxy_define_metric", "iiii", nil},
	{"proxy_record_metric", "il", nil},
	{"proxy_increment_metric", "il", nil},
	{"proxy_get_metric", "ii", nil},
	{"proxy_get_property", "iiii", (*call).getProperty},
	{"proxy_set_property", "iiii", nil},
	{"proxy_call_foreign_function", "iiiiii", nil},
}

// types are the engine's types for parameter letters.
func types(letters string) []api.ValueType {
	out := make([]api.ValueType, 0, len(letters))
	for _, l := range letters {
		t := api.ValueTypeI32
		if l == 'l' {
			t = api.ValueTypeI64
		}
		out = append(out, t)
	}
	return out
}

func (f *Filter) instantiateABI(ctx context.Context) error {
	b := f.runtime.NewHostModuleBuilder(abiModule)
	for _, h := range hostCalls {
		if h.name == "proxy_resolve_shared_queue" && f.on(defect.SandboxProxyImportMissing) {
			continue
		}
		b.NewFunctionBuilder().WithGoModuleFunction(f.hostFunction(h), types(h.params), types("i")).Export(h.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

func (f *Filter) hostFunction(h hostCall) api.GoModuleFunc {
	run := h.run
	if run == nil {
		run = (*call).unimplemented
	}
	return func(ctx context.Context, guest api.Module, stack []uint64) {
		f.overdue()
		stack[0] = uint64(run(&call{ctx: ctx, f: f, vm: f.vm, guest: guest, args: stack}))
	}
}

func (c *call) unimplemented() status {
	if c.f.on(defect.SandboxProxyUnimplementedOk) {
		return statusOK
	}
	return statusUnimplemented
}

// done () ends the effective context that waits for it.
func (c *call) done() status {
	if !c.vm.complete(c.vm.active) {
		return statusNotFound
	}
	return statusOK
}

// setEffectiveContext (context).
func (c *call) setEffectiveContext() status {
	if c.u32(0) == pluginID {
		c.vm.active = nil
		return statusOK
	}
	s := c.vm.streams[c.u32(0)]
	if s == nil {
		return statusBadArgument
	}
	c.vm.active = s
	return statusOK
}

// log (level, message, length).
func (c *call) log() status {
	if c.u32(0) > maxLogLevel {
		return statusBadArgument
	}
	line, ok := c.view(1)
	if !ok {
		return c.invalid()
	}
	c.f.log.add(line)
	return statusOK
}

// currentTime (return time).
func (c *call) currentTime() status {
	if m := c.memory(); m == nil || !m.WriteUint64Le(c.u32(0), uint64(time.Now().UnixNano())) {
		return c.invalid()
	}
	return statusOK
}

// setTickPeriod (milliseconds).
func (c *call) setTickPeriod() status {
	c.vm.setTick(c.u32(0))
	return statusOK
}

// getBufferBytes (buffer, start, limit, return data, return length).
func (c *call) getBufferBytes() status {
	if c.u32(0) > bufferForeignArguments {
		return statusBadArgument
	}
	buffer, ok := c.buffer(c.u32(0))
	if !ok {
		return statusNotFound
	}
	start, limit := uint64(c.u32(1)), uint64(c.u32(2))
	if start > uint64(len(buffer)) || start+limit > 1<<32-1 {
		return statusBadArgument
	}
	return c.give(3, buffer[start:min(start+limit, uint64(len(buffer)))])
}

// buffer returns a buffer that can be read now.
func (c *call) buffer(id uint32) ([]byte, bool) {
	switch s := c.vm.active; {
	case id == bufferVMConfiguration:
		return c.f.options.VMConfiguration, true
	case id == bufferPluginConfiguration:
		return c.f.options.Configuration, true
	case s == nil:
		return nil, false
	case id == bufferRequestBody && s.phase == phaseRequest:
		return s.body[request], s.hasBody[request]
	case id == bufferResponseBody && s.phase == phaseResponse:
		return s.body[response], s.hasBody[response]
	}
	return nil, false
}

// mapID returns the header map that argument 0 names. Without a stream there is none, and the maps of
// gRPC and HTTP calls never are.
func (c *call) mapID() (id int, ok bool) {
	n := c.u32(0)
	if n > mapHTTPCallTrailers && c.f.on(defect.SandboxProxyBadMapOk) {
		n = mapRequestHeaders
	}
	return int(n), n <= mapResponseTrailers && c.vm.active != nil
}

// getMapSize (map, return length).
func (c *call) getMapSize() status {
	id, ok := c.mapID()
	if !ok {
		return statusBadArgument
	}
	return c.putU32(1, uint32(c.f.pairs().size(c.vm.active.maps[id])))
}

// getMapPairs (map, return data, return length).
func (c *call) getMapPairs() status {
	id, ok := c.mapID()
	if !ok {
		return statusBadArgument
	}
	return c.give(1, c.f.pairs().encode(c.vm.active.maps[id]))
}

// setMapPairs (map, data, length).
func (c *call) setMapPairs() status {
	id, ok := c.mapID()
	if !ok {
		return statusBadArgument
	}
	data, ok := c.view(1)
	if !ok {
		return c.invalid()
	}
	if len(data) > maxEncoded {
		return statusBadArgument
	}
	m, err := c.f.pairs().decode(data)
	if err != nil {
		return statusParseFailure
	}
	for i := range m {
		m[i].key = normalized(id, m[i].key)
		if !allowed(id, m[i]) {
			return statusBadArgument
		}
	}
	return c.setMap(id, m)
}

// maxEncoded is the length of the longest map that fits, encoded.
const maxEncoded = 4 + 10*maxPairs + maxFieldBytes

// setMap puts a whole map in place, or changes nothing.
func (c *call) setMap(id int, m fields) status {
	if !c.vm.active.writable(id) || !m.fits() {
		return statusBadArgument
	}
	c.vm.active.maps[id] = m
	return statusOK
}

// getMapValue (map, key, length, return data, return length).
func (c *call) getMapValue() status {
	id, ok := c.mapID()
	if !ok {
		return statusBadArgument
	}
	key, ok := c.view(1)
	if !ok {
		return c.invalid()
	}
	value, found := "", false
	if len(key) <= maxFieldBytes { // no map holds a longer one
		value, found = c.vm.active.maps[id].get(normalized(id, string(key)))
	}
	if !found && !c.f.on(defect.SandboxProxyMissingGetOk) {
		return statusNotFound
	}
	return c.give(3, []byte(value))
}

// change reads the map, key and value of a function that changes one field.
func (c *call) change() (id int, p pair, st status) {
	id, ok := c.mapID()
	if !ok {
		return 0, p, statusBadArgument
	}
	key, keyOK := c.view(1)
	value, valueOK := c.view(3)
	if !keyOK || !valueOK {
		return 0, p, c.invalid()
	}
	if len(key)+len(value) > maxFieldBytes {
		return 0, p, statusBadArgument
	}
	p = pair{normalized(id, string(key)), string(value)}
	if !allowed(id, p) {
		return 0, p, statusBadArgument
	}
	return id, p, statusOK
}

// addMapValue (map, key, length, value, length). A pseudo header stands once: adding one replaces it.
func (c *call) addMapValue() status {
	id, p, st := c.change()
	if st != statusOK {
		return st
	}
	m := c.vm.active.maps[id]
	if strings.HasPrefix(p.key, ":") {
		return c.setMap(id, m.replaced(p.key, p.value))
	}
	return c.setMap(id, append(slices.Clone(m), p))
}

// replaceMapValue (map, key, length, value, length).
func (c *call) replaceMapValue() status {
	id, p, st := c.change()
	if st != statusOK {
		return st
	}
	if id == mapRequestHeaders && c.f.on(defect.SandboxProxyHeadersLost) {
		return statusOK
	}
	return c.setMap(id, c.vm.active.maps[id].replaced(p.key, p.value))
}

// removeMapValue (map, key, length). Removing what is not there is no error.
func (c *call) removeMapValue() status {
	id, ok := c.mapID()
	if !ok {
		return statusBadArgument
	}
	key, ok := c.view(1)
	switch {
	case !ok:
		return c.invalid()
	case len(key) > maxFieldBytes: // no map holds it
		return statusOK
	case id == mapResponseHeaders && c.f.on(defect.SandboxProxyRemovedSent):
		return statusOK
	}
	return c.setMap(id, c.vm.active.maps[id].without(normalized(id, string(key))))
}

// streamType reads argument 0 as the direction of an HTTP stream.
func (c *call) streamType() (direction, bool) {
	d := c.u32(0)
	return direction(d & 1), d <= uint32(response)
}

// continueStream (stream type). TCP streams, types 2 and 3, are not offered.
func (c *call) continueStream() status {
	d, ok := c.streamType()
	if !ok {
		if c.u32(0) <= 3 {
			return c.unimplemented()
		}
		return statusBadArgument
	}
	if s := c.vm.active; s != nil {
		s.paused[d], s.resumed[d] = false, true
		s.wakeUp()
		return statusOK
	}
	return c.unimplemented() // the plugin context has no stream
}

// closeStream (stream type).
func (c *call) closeStream() status {
	if _, ok := c.streamType(); !ok || c.vm.active == nil {
		return statusBadArgument
	}
	c.vm.active.reset = true
	c.vm.active.wakeUp()
	return statusOK
}

// sendLocalResponse (status, details, length, body, length, headers, length, gRPC status). It is refused
// once the response went out, and for a status or headers that HTTP does not allow.
func (c *call) sendLocalResponse() status {
	s, code := c.vm.active, int(c.u32(0))
	_, detailsOK := c.view(1)
	body, bodyOK := c.view(3)
	encoded, headersOK := c.view(5)
	switch {
	case !detailsOK || !bodyOK || !headersOK:
		return c.invalid()
	case s == nil || s.phase >= phaseDone || s.local != nil || !finalStatus(code):
		return statusBadArgument
	case len(body) > maxBody || len(encoded) > maxEncoded:
		return statusBadArgument
	}
	pairs, err := c.f.pairs().decode(encoded)
	if err != nil {
		return statusParseFailure
	}
	headers := slices.DeleteFunc(fields(pairs), func(p pair) bool { return strings.HasPrefix(p.key, ":") })
	for i := range headers {
		headers[i].key = strings.ToLower(headers[i].key)
		if !allowed(mapResponseHeaders, headers[i]) {
			return statusBadArgument
		}
	}
	if !headers.fits() {
		return statusBadArgument
	}
	s.local = &localResponse{status: code, headers: headers, body: slices.Clone(body)}
	s.wakeUp()
	return statusOK
}

// maxPropertyPath bounds the path of a property, in bytes.
const maxPropertyPath = 1024

// getProperty (path, length, return data, return length). Path segments are separated by zero bytes.
func (c *call) getProperty() status {
	path, ok := c.view(0)
	if !ok {
		return c.invalid()
	}
	if len(path) > maxPropertyPath {
		return statusNotFound
	}
	value, found := c.property(strings.ReplaceAll(strings.TrimSuffix(string(path), "\x00"), "\x00", "."))
	if !found {
		return statusNotFound
	}
	return c.give(2, value)
}

// property returns one of the few properties that this host has. Numbers are 64 bits, little-endian.
func (c *call) property(path string) ([]byte, bool) {
	switch path {
	case "plugin_name", "plugin_root_id", "plugin_vm_id":
		return nil, true
	}
	s := c.vm.active
	if s == nil {
		return nil, false
	}
	if path == "request.protocol" {
		return []byte(s.protocol), true
	}
	if path == "response.code" {
		code, err := strconv.ParseUint(s.maps[mapResponseHeaders].first(keyStatus, ""), 10, 16)
		return binary.LittleEndian.AppendUint64(nil, code), err == nil
	}
	value, found := s.requestProperty(path)
	return []byte(value), found
}

func (s *stream) requestProperty(path string) (string, bool) {
	headers := s.maps[mapRequestHeaders]
	switch path {
	case "request.method":
		return headers.get(keyMethod)
	case "request.path":
		return headers.get(keyPath)
	case "request.url_path":
		path, found := headers.get(keyPath)
		path, _, _ = strings.Cut(path, "?")
		return path, found
	case "request.host":
		return headers.get(keyAuthority)
	case "request.scheme":
		return headers.get(keyScheme)
	case "request.useragent":
		return headers.get("user-agent")
	case "request.id":
		return headers.get("x-request-id")
	}
	if name, ok := strings.CutPrefix(path, "request.headers."); ok {
		return headers.get(normalized(mapRequestHeaders, name))
	}
	return "", false
}
