// A filter that does what the request's path says. Built with NO_MARKER, START, MALLOC or BAD_TYPE it is
// another module in one respect each.
#include "abi.h"

enum { REQUEST = 0, REQUEST_TRAILERS = 1, RESPONSE = 2, PLUGIN = 1 };

static char heap[1 << 20] __attribute__((aligned(16)));
static u32 used = 0;
static u32 refuse_memory = 0; // the allocator returns 0
static u32 wild_memory = 0;   // the allocator returns an address past the end
static u32 log_in_allocator = 0;

static u32 take(u32 n) {
	if (refuse_memory) return 0;
	if (wild_memory) return 0xfffffff0u;
	if (log_in_allocator) {
		u32 p = 0, size = 0;
		proxy_log(2, (u32) "in allocator", 12);
		// A value from within the allocator would enter the allocator again.
		log_in_allocator = 100 + proxy_get_buffer_bytes(7, 0, 100, (u32)&p, (u32)&size);
	}
	n = (n + 15) & ~15u;
	if (used + n > sizeof heap) return 0;
	u32 at = (u32)heap + used;
	used += n;
	return at;
}

#ifdef MALLOC
u32 EXPORT(malloc)(u32 n) { return take(n); }
#else
u32 EXPORT(proxy_on_memory_allocate)(u32 n) { return take(n); }
#endif
#ifndef NO_MARKER
void EXPORT(proxy_abi_version_0_2_1)(void) {}
#endif
#ifdef BAD_TYPE
void EXPORT(proxy_on_log)(u32 id, u32 more) {}
#endif

static u32 length(const char *s) { u32 n = 0; while (s[n]) n++; return n; }
static u32 same(const char *a, u32 n, const char *b) {
	if (n != length(b)) return 0;
	for (u32 i = 0; i < n; i++) if (a[i] != b[i]) return 0;
	return 1;
}

static char line[256];
static u32 end;
static void text(const char *s) { while (*s && end < sizeof line) line[end++] = *s++; }
static void number(u32 n) {
	char d[10];
	u32 i = 0;
	do d[i++] = '0' + n % 10; while (n /= 10);
	while (i && end < sizeof line) line[end++] = d[--i];
}
static void event(const char *name, u32 id) {
	end = 0;
	text(name);
	if (id) { text(" "); number(id); }
	proxy_log(2, (u32)line, end);
}
static void item(const char *name, u32 n) { text(name); text("="); number(n); text(";"); }
static u32 put(u32 map, const char *key, const char *value, u32 n) {
	return proxy_replace_header_map_value(map, (u32)key, length(key), (u32)value, n);
}
static u32 get(u32 map, const char *key, char **value, u32 *n) {
	return proxy_get_header_map_value(map, (u32)key, length(key), (u32)value, (u32)n);
}
static void report(u32 map) { put(map, "x-report", line, end); }

#ifdef START
void EXPORT(_start)(void) { event("_start", 0); }
__attribute__((export_name("main"))) u32 entry(u32 a, u32 b) { event("main", 0); return 0; }
#else
__attribute__((export_name("main"))) u32 entry(u32 a, u32 b) { event("main", 0); return 0; }
void EXPORT(_start)(void) { event("_start", 0); }
void EXPORT(_initialize)(void) { event("_initialize", 0); }
#endif

struct stream { u32 used, id, mode, ticks; };
static struct stream streams[1100];
static struct stream *of(u32 id) {
	for (u32 i = 0; i < 1100; i++) if (streams[i].used && streams[i].id == id) return &streams[i];
	return 0;
}
enum { PLAIN, PAUSED, HELD, PENDING, LATE, PAUSED_RESPONSE, LATE_LOCAL };

static u32 trap_in_tick, plugin_waits, plugin_pending;

void EXPORT(proxy_on_context_create)(u32 id, u32 parent) {
	event("create", id);
	if (!parent) return;
	for (u32 i = 0; i < 1100; i++) if (!streams[i].used) {
		streams[i] = (struct stream){1, id, PLAIN, 0};
		return;
	}
}

static u32 configuration(u32 buffer, u32 size, const char *want) {
	char *p = 0;
	u32 n = 0;
	return proxy_get_buffer_bytes(buffer, 0, size, (u32)&p, (u32)&n) == 0 && n == size && same(p, n, want);
}
u32 EXPORT(proxy_on_vm_start)(u32 id, u32 size) { event("vm_start", id); return !configuration(6, size, "refuse"); }
u32 EXPORT(proxy_on_configure)(u32 id, u32 size) {
	event("configure", id);
	plugin_waits = configuration(7, size, "plugin-waits");
	if (configuration(7, size, "trap")) __builtin_trap();
	proxy_set_tick_period_milliseconds(5);
	return !configuration(7, size, "refuse");
}

static const char cut[] = {2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 'a', 0, '1', 0, 'b', 0, '2'};
static const char whole[] = {2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 'A', 0, '1', 0, 'b', 0, '2', '2', 0};

static void headers(void) {
	char *v;
	u32 n, a;
	end = 0;
	item("get", get(REQUEST, "x-in", &v, &n));
	item("length", n);
	item("missing", get(REQUEST, "x-missing", &v, &n));
	item("add", proxy_add_header_map_value(REQUEST, (u32) "X-Added", 7, (u32) "one", 3));
	item("add", proxy_add_header_map_value(REQUEST, (u32) "x-added", 7, (u32) "two", 3));
	item("replace", put(REQUEST, "x-replace", "replaced", 8));
	item("remove", proxy_remove_header_map_value(REQUEST, (u32) "x-remove", 8));
	item("absent", proxy_remove_header_map_value(REQUEST, (u32) "x-absent", 8));
	item("split", put(REQUEST, "x-split", "a\r\nx-b: c", 9));
	item("path", put(REQUEST, ":path", "/changed?q=1", 12));
	item("badpath", put(REQUEST, ":path", "changed here", 12));
	item("early", put(RESPONSE, "x-early", "1", 1));
	item("property", proxy_get_property((u32) "request\0method", 14, (u32)&v, (u32)&n));
	item("noproperty", proxy_get_property((u32) "request\0nothing", 15, (u32)&v, (u32)&n));
	item("size", proxy_get_header_map_size(REQUEST, (u32)&a));
	item("pairs", proxy_get_header_map_pairs(REQUEST, (u32)&v, (u32)&n));
	item("equal", a == n);
	report(REQUEST);
	put(REQUEST, "x-first", (char *)&v[0], 0);
}

static void pairs(void) {
	char *v;
	u32 n;
	end = 0;
	item("cut", proxy_set_header_map_pairs(REQUEST, (u32)cut, sizeof cut));
	item("still", get(REQUEST, "x-in", &v, &n));
	item("set", proxy_set_header_map_pairs(REQUEST, (u32)whole, sizeof whole));
	item("gone", get(REQUEST, "x-in", &v, &n));
	item("a", get(REQUEST, "a", &v, &n));
	item("pairs", proxy_get_header_map_pairs(REQUEST, (u32)&v, (u32)&n));
	u32 equal = n == sizeof whole && v[20] == 'a';
	for (u32 i = 0; equal && i < n; i++) if (i != 20 && v[i] != whole[i]) equal = 0;
	item("bytes", equal);
	item("empty0", proxy_set_header_map_pairs(REQUEST, 0, 0));
	item("empty1", proxy_set_header_map_pairs(REQUEST, (u32) "\0", 1));
	item("none", proxy_get_header_map_pairs(REQUEST, (u32)&v, (u32)&n));
	item("size", n);
	item("trailers", proxy_get_header_map_pairs(REQUEST_TRAILERS, (u32)&v, (u32)&n));
	item("size", n);
	report(REQUEST);
}

static void bad(void) {
	char *v = (char *)7;
	u32 n = 9, far = 0xfffffff0u;
	end = 0;
	item("map", get(99, "x-in", &v, &n));
	item("map", proxy_get_header_map_size(99, (u32)&n));
	item("grpc", proxy_get_header_map_size(4, (u32)&n));
	item("key", proxy_get_header_map_value(REQUEST, far, 16, (u32)&v, (u32)&n));
	item("wrap", proxy_get_header_map_value(REQUEST, 16, 0xffffffffu, (u32)&v, (u32)&n));
	item("pointer", proxy_get_header_map_value(REQUEST, (u32) "x-in", 4, far, (u32)&n));
	item("size", proxy_get_header_map_value(REQUEST, (u32) "x-in", 4, (u32)&v, far));
	item("untouched", v == (char *)7 && n == 9);
	item("level", proxy_log(6, (u32) "x", 1));
	item("log", proxy_log(2, far, 32));
	item("buffer", proxy_get_buffer_bytes(99, 0, 1, (u32)&v, (u32)&n));
	item("start", proxy_get_buffer_bytes(7, 1000, 1, (u32)&v, (u32)&n));
	item("body", proxy_get_buffer_bytes(0, 0, 1, (u32)&v, (u32)&n));
	item("stream", proxy_continue_stream(9));
	item("tcp", proxy_continue_stream(2));
	item("context", proxy_set_effective_context(4711));
	item("done", proxy_done());
	item("http", proxy_http_call(0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
	report(REQUEST);
}

static void allocation(void) {
	static const char known[] = "sixteen bytes 0";
	char *zero = (char *)0, *v = (char *)7;
	u32 n = 9;
	for (u32 i = 0; i < 16; i++) ((volatile char *)zero)[i] = known[i];
	end = 0;
	refuse_memory = 1;
	item("refused", get(REQUEST, "x-in", &v, &n));
	refuse_memory = 0, wild_memory = 1;
	item("wild", get(REQUEST, "x-in", &v, &n));
	wild_memory = 0;
	item("untouched", v == (char *)7 && n == 9);
	u32 equal = 1;
	for (u32 i = 0; i < 16; i++) if (((volatile char *)zero)[i] != known[i]) equal = 0;
	item("zero", equal);
	log_in_allocator = 1;
	item("nested", get(REQUEST, "x-in", &v, &n));
	item("inner", log_in_allocator - 100);
	log_in_allocator = 0;
	report(REQUEST);
}

static void environment(void) {
	u32 count = 9, size = 9, cells[4];
	u64 now = 0;
	u32 vector[4] = {(u32) "from stdout\nand ", 16, (u32) "more\n", 5}, written = 0;
	end = 0;
	item("environ", environ_sizes_get((u32)&count, (u32)&size));
	item("count", count);
	item("args", args_sizes_get((u32)&count, (u32)&size));
	item("count", count);
	item("get", environ_get((u32)cells, (u32)heap));
	item("clock", clock_time_get(0, 0, (u32)&now));
	item("noclock", clock_time_get(7, 0, (u32)&now));
	item("write", fd_write(1, (u32)vector, 2, (u32)&written));
	item("written", written);
	item("file", fd_write(5, (u32)vector, 2, (u32)&written));
	item("random", random_get((u32)heap, 16));
	report(REQUEST);
}

u32 EXPORT(proxy_on_request_headers)(u32 id, u32 n, u32 eos) {
	struct stream *s = of(id);
	char *p = 0;
	u32 size = 0;
	used = 0;
	event("request", id);
	if (get(REQUEST, ":path", &p, &size)) return 0;
	if (same(p, size, "/headers")) headers();
	if (same(p, size, "/pairs")) pairs();
	if (same(p, size, "/bad")) bad();
	if (same(p, size, "/alloc")) allocation();
	if (same(p, size, "/environ")) environment();
	if (same(p, size, "/trap")) __builtin_trap();
	if (same(p, size, "/tick-trap")) { trap_in_tick = 1; return 1; }
	if (same(p, size, "/slow")) for (;;) proxy_log(2, (u32) "slow", 4);
	if (same(p, size, "/close")) { proxy_close_stream(0); return 1; }
	if (same(p, size, "/pause")) { s->mode = PAUSED; return 1; }
	if (same(p, size, "/hold")) { s->mode = HELD; return 1; }
	if (same(p, size, "/at-once")) { proxy_continue_stream(0); return 1; }
	if (same(p, size, "/late-local")) { s->mode = LATE_LOCAL; return 1; }
	if (same(p, size, "/buffer")) return 1;
	if (same(p, size, "/pause-response")) s->mode = PAUSED_RESPONSE;
	if (same(p, size, "/done")) s->mode = PENDING;
	if (same(p, size, "/never-done")) s->mode = LATE;
	if (same(p, size, "/local") || same(p, size, "/local-continue")) {
		u32 st = proxy_send_local_response(418, (u32) "why", 3, (u32) "teapot\n", 7, (u32)whole, sizeof whole, 0xffffffffu);
		u32 again = proxy_send_local_response(200, 0, 0, 0, 0, 0, 0, 0);
		end = 0;
		item("local", st);
		item("again", again);
		proxy_log(2, (u32)line, end);
		return same(p, size, "/local");
	}
	if (same(p, size, "/local-bad")) {
		end = 0;
		item("cut", proxy_send_local_response(200, 0, 0, 0, 0, (u32)cut, sizeof cut, 0));
		item("status", proxy_send_local_response(99, 0, 0, 0, 0, 0, 0, 0));
		item("body", proxy_send_local_response(200, 0, 0, 0xfffffff0u, 32, 0, 0, 0));
		report(REQUEST);
	}
	return 0;
}

u32 EXPORT(proxy_on_request_body)(u32 id, u32 size, u32 eos) {
	char *v = 0;
	u32 n = 0;
	event(eos ? "request-body" : "request-body-open", id);
	end = 0;
	item("body", proxy_get_buffer_bytes(0, 0, 0xffffffffu, (u32)&v, (u32)&n));
	item("size", n);
	item("given", size);
	put(REQUEST, "x-body", line, end);
	put(REQUEST, "x-content", v, n < 64 ? n : 64);
	return 0;
}
u32 EXPORT(proxy_on_request_trailers)(u32 id, u32 n) {
	event("request-trailers", id);
	proxy_add_header_map_value(REQUEST_TRAILERS, (u32) "x-trailer-added", 15, (u32) "yes", 3);
	return 0;
}

u32 EXPORT(proxy_on_response_headers)(u32 id, u32 n, u32 eos) {
	struct stream *s = of(id);
	char *v = 0;
	u32 size = 0;
	event("response", id);
	end = 0;
	item("status", get(RESPONSE, ":status", &v, &size));
	item("late", put(REQUEST, "x-late", "1", 1));
	item("remove", proxy_remove_header_map_value(RESPONSE, (u32) "x-hidden", 8));
	item("ticks", s ? s->ticks : 0);
	put(RESPONSE, "x-response", line, end);
	if (s && s->mode == PAUSED_RESPONSE) return 1;
	return 0;
}
u32 EXPORT(proxy_on_response_body)(u32 id, u32 size, u32 eos) {
	struct stream *s = of(id);
	char *v = 0;
	u32 n = 0;
	end = 0;
	item("body", proxy_get_buffer_bytes(1, 1, 4, (u32)&v, (u32)&n));
	item("size", n);
	put(RESPONSE, "x-response-body", line, end);
	return s && s->mode == PAUSED_RESPONSE;
}

void EXPORT(proxy_on_tick)(u32 id) {
	if (trap_in_tick) __builtin_trap();
	if (plugin_pending) { event("plugin proxy_done", 1 + proxy_done()); plugin_pending = 0; }
	for (u32 i = 0; i < 1100; i++) {
		struct stream *s = &streams[i];
		if (!s->used || s->mode == PLAIN || s->mode == HELD || s->mode == LATE || ++s->ticks < 3) continue;
		if (proxy_set_effective_context(s->id)) continue;
		switch (s->mode) {
		case PAUSED: s->mode = PLAIN; proxy_continue_stream(0); break;
		case PAUSED_RESPONSE: proxy_continue_stream(1); break;
		case LATE_LOCAL: s->mode = PLAIN; proxy_send_local_response(202, 0, 0, (u32) "late", 4, 0, 0, 0); break;
		case PENDING: if (s->ticks > 1000) event("proxy_done", 1 + proxy_done()); break;
		}
	}
}

u32 EXPORT(proxy_on_done)(u32 id) {
	struct stream *s = of(id);
	event("done", id);
	if (id == PLUGIN && plugin_waits) { plugin_pending = 1; return 0; }
	if (s && s->mode == PENDING) { s->ticks = 1000; return 0; }
	return !(s && s->mode == LATE);
}
#ifndef BAD_TYPE
void EXPORT(proxy_on_log)(u32 id) {
	char *v;
	u32 n;
	event("log", id);
	if (id != PLUGIN) {
		end = 0;
		item("read", get(REQUEST, ":method", &v, &n));
		item("write", put(REQUEST, "x-log", "1", 1));
		item("local", proxy_send_local_response(200, 0, 0, 0, 0, 0, 0, 0));
		proxy_log(0, (u32)line, end);
	}
}
#endif
void EXPORT(proxy_on_delete)(u32 id) {
	struct stream *s = of(id);
	if (s) s->used = 0;
	event("delete", id);
}
