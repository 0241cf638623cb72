// The host functions of Proxy-Wasm 0.2.1 and what a guest needs without a C library.
#pragma once
typedef unsigned int u32;
typedef unsigned long long u64;
#define EXPORT(name) __attribute__((export_name(#name))) name
#define IMPORT(name) __attribute__((import_module("env"), import_name(#name))) name
#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) name

u32 IMPORT(proxy_done)(void);
u32 IMPORT(proxy_set_effective_context)(u32);
u32 IMPORT(proxy_log)(u32, u32, u32);
u32 IMPORT(proxy_get_log_level)(u32);
u32 IMPORT(proxy_get_current_time_nanoseconds)(u32);
u32 IMPORT(proxy_set_tick_period_milliseconds)(u32);
u32 IMPORT(proxy_set_buffer_bytes)(u32, u32, u32, u32, u32);
u32 IMPORT(proxy_get_buffer_bytes)(u32, u32, u32, u32, u32);
u32 IMPORT(proxy_get_buffer_status)(u32, u32, u32);
u32 IMPORT(proxy_get_header_map_size)(u32, u32);
u32 IMPORT(proxy_get_header_map_pairs)(u32, u32, u32);
u32 IMPORT(proxy_set_header_map_pairs)(u32, u32, u32);
u32 IMPORT(proxy_get_header_map_value)(u32, u32, u32, u32, u32);
u32 IMPORT(proxy_add_header_map_value)(u32, u32, u32, u32, u32);
u32 IMPORT(proxy_replace_header_map_value)(u32, u32, u32, u32, u32);
u32 IMPORT(proxy_remove_header_map_value)(u32, u32, u32);
u32 IMPORT(proxy_continue_stream)(u32);
u32 IMPORT(proxy_close_stream)(u32);
u32 IMPORT(proxy_get_status)(u32, u32, u32);
u32 IMPORT(proxy_send_local_response)(u32, u32, u32, u32, u32, u32, u32, u32);
u32 IMPORT(proxy_http_call)(u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);
u32 IMPORT(proxy_grpc_call)(u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);
u32 IMPORT(proxy_grpc_stream)(u32, u32, u32, u32, u32, u32, u32, u32, u32);
u32 IMPORT(proxy_grpc_send)(u32, u32, u32, u32);
u32 IMPORT(proxy_grpc_cancel)(u32);
u32 IMPORT(proxy_grpc_close)(u32);
u32 IMPORT(proxy_set_shared_data)(u32, u32, u32, u32, u32);
u32 IMPORT(proxy_get_shared_data)(u32, u32, u32, u32, u32);
u32 IMPORT(proxy_register_shared_queue)(u32, u32, u32);
u32 IMPORT(proxy_resolve_shared_queue)(u32, u32, u32, u32, u32);
u32 IMPORT(proxy_enqueue_shared_queue)(u32, u32, u32);
u32 IMPORT(proxy_dequeue_shared_queue)(u32, u32, u32);
u32 IMPORT(proxy_define_metric)(u32, u32, u32, u32);
u32 IMPORT(proxy_record_metric)(u32, u64);
u32 IMPORT(proxy_increment_metric)(u32, u64);
u32 IMPORT(proxy_get_metric)(u32, u32);
u32 IMPORT(proxy_get_property)(u32, u32, u32, u32);
u32 IMPORT(proxy_set_property)(u32, u32, u32, u32);
u32 IMPORT(proxy_call_foreign_function)(u32, u32, u32, u32, u32, u32);
u32 WASI(fd_write)(u32, u32, u32, u32);
u32 WASI(clock_time_get)(u32, u64, u32);
u32 WASI(random_get)(u32, u32);
u32 WASI(environ_sizes_get)(u32, u32);
u32 WASI(environ_get)(u32, u32);
u32 WASI(args_sizes_get)(u32, u32);
u32 WASI(args_get)(u32, u32);
