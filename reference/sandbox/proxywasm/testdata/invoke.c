// Calls the host function of the given number with the given arguments: numbers are those of the host's
// own table, the functions of WASI follow.
#include "abi.h"

static u32 answer = 4096; // what the allocator returns

void EXPORT(proxy_abi_version_0_2_1)(void) {}
u32 EXPORT(proxy_on_memory_allocate)(u32 size) { return answer; }
void EXPORT(set_allocator)(u32 at) { answer = at; }

#define P(x) ((u32)(x))

u32 EXPORT(invoke)(u32 fn, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i, u64 j, u64 k, u64 l) {
	switch (fn) {
	case 0: return proxy_done();
	case 1: return proxy_set_effective_context(P(a));
	case 2: return proxy_log(P(a), P(b), P(c));
	case 3: return proxy_get_log_level(P(a));
	case 4: return proxy_get_current_time_nanoseconds(P(a));
	case 5: return proxy_set_tick_period_milliseconds(P(a));
	case 6: return proxy_set_buffer_bytes(P(a), P(b), P(c), P(d), P(e));
	case 7: return proxy_get_buffer_bytes(P(a), P(b), P(c), P(d), P(e));
	case 8: return proxy_get_buffer_status(P(a), P(b), P(c));
	case 9: return proxy_get_header_map_size(P(a), P(b));
	case 10: return proxy_get_header_map_pairs(P(a), P(b), P(c));
	case 11: return proxy_set_header_map_pairs(P(a), P(b), P(c));
	case 12: return proxy_get_header_map_value(P(a), P(b), P(c), P(d), P(e));
	case 13: return proxy_add_header_map_value(P(a), P(b), P(c), P(d), P(e));
	case 14: return proxy_replace_header_map_value(P(a), P(b), P(c), P(d), P(e));
	case 15: return proxy_remove_header_map_value(P(a), P(b), P(c));
	case 16: return proxy_continue_stream(P(a));
	case 17: return proxy_close_stream(P(a));
	case 18: return proxy_get_status(P(a), P(b), P(c));
	case 19: return proxy_send_local_response(P(a), P(b), P(c), P(d), P(e), P(f), P(g), P(h));
	case 20: return proxy_http_call(P(a), P(b), P(c), P(d), P(e), P(f), P(g), P(h), P(i), P(j));
	case 21: return proxy_grpc_call(P(a), P(b), P(c), P(d), P(e), P(f), P(g), P(h), P(i), P(j), P(k), P(l));
	case 22: return proxy_grpc_stream(P(a), P(b), P(c), P(d), P(e), P(f), P(g), P(h), P(i));
	case 23: return proxy_grpc_send(P(a), P(b), P(c), P(d));
	case 24: return proxy_grpc_cancel(P(a));
	case 25: return proxy_grpc_close(P(a));
	case 26: return proxy_set_shared_data(P(a), P(b), P(c), P(d), P(e));
	case 27: return proxy_get_shared_data(P(a), P(b), P(c), P(d), P(e));
	case 28: return proxy_register_shared_queue(P(a), P(b), P(c));
	case 29: return proxy_resolve_shared_queue(P(a), P(b), P(c), P(d), P(e));
	case 30: return proxy_enqueue_shared_queue(P(a), P(b), P(c));
	case 31: return proxy_dequeue_shared_queue(P(a), P(b), P(c));
	case 32: return proxy_define_metric(P(a), P(b), P(c), P(d));
	case 33: return proxy_record_metric(P(a), b);
	case 34: return proxy_increment_metric(P(a), b);
	case 35: return proxy_get_metric(P(a), P(b));
	case 36: return proxy_get_property(P(a), P(b), P(c), P(d));
	case 37: return proxy_set_property(P(a), P(b), P(c), P(d));
	case 38: return proxy_call_foreign_function(P(a), P(b), P(c), P(d), P(e), P(f));
	case 39: return fd_write(P(a), P(b), P(c), P(d));
	case 40: return clock_time_get(P(a), b, P(c));
	case 41: return random_get(P(a), P(b));
	case 42: return environ_sizes_get(P(a), P(b));
	case 43: return environ_get(P(a), P(b));
	case 44: return args_sizes_get(P(a), P(b));
	case 45: return args_get(P(a), P(b));
	}
	return 0xffff;
}
