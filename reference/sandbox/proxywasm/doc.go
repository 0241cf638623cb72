// Package proxywasm hosts Proxy-Wasm 0.2.1 filters (the HTTP subset of the ABI) on wazero and runs them
// in a small HTTP/1.1 reverse proxy. It admits nothing: a module that arrives here has been checked and
// rewritten by the sandbox. It opens no listener: Proxy is an http.Handler.
//
// A filter is one instance behind one mutex. The mutex is held while the guest runs and never while the
// proxy waits for a client, an upstream or a paused stream, so that the guest sees callbacks one after
// the other, as the ABI promises, and a slow upstream holds up nobody else.
//
// Tried: a pool of instances. Lost: a tick or a second request has to find the stream that it continues,
// and contexts belong to one instance.
package proxywasm
