// Every callback that a host may want to call, for filters that leave some out: proxytest calls all of them.
#define NOTHING(name) __attribute__((export_name(#name)))
NOTHING(proxy_on_vm_start) unsigned on_vm_start(unsigned id, unsigned n) { return (void)id, (void)n, 1; }
NOTHING(proxy_on_configure) unsigned on_configure(unsigned id, unsigned n) { return (void)id, (void)n, 1; }
NOTHING(proxy_on_context_create) void on_create(unsigned id, unsigned parent) { (void)id, (void)parent; }
NOTHING(proxy_on_done) unsigned on_done(unsigned id) { return (void)id, 1; }
NOTHING(proxy_on_log) void on_log(unsigned id) { (void)id; }
