package defect

// The planted defects of the sandbox.
const (
	SandboxAbsent                  Name = "sandbox.absent"
	SandboxRunAbsent               Name = "sandbox.run-absent"
	SandboxProxyAbsent             Name = "sandbox.proxy-absent"
	SandboxNnAbsent                Name = "sandbox.nn-absent"
	SandboxInterpreterAbsent       Name = "sandbox.interpreter-absent"
	SandboxExportUnchecked         Name = "sandbox.export-unchecked"
	SandboxImportUnchecked         Name = "sandbox.import-unchecked"
	SandboxHostBoundsTrap          Name = "sandbox.host-bounds-trap"
	SandboxHostPartialWrite        Name = "sandbox.host-partial-write"
	SandboxTrapsAsInternal         Name = "sandbox.traps-as-internal"
	SandboxEngineDiffers           Name = "sandbox.engine-differs"
	SandboxRewriteSkipsBrTable     Name = "sandbox.rewrite-skips-br-table"
	SandboxViewStale               Name = "sandbox.view-stale"
	SandboxCPUUnmetered            Name = "sandbox.cpu-unmetered"
	SandboxRecursionUnmetered      Name = "sandbox.recursion-unmetered"
	SandboxBulkUnmetered           Name = "sandbox.bulk-unmetered"
	SandboxFuelAsUnreachable       Name = "sandbox.fuel-as-unreachable"
	SandboxFuelKeepsInstance       Name = "sandbox.fuel-keeps-instance"
	SandboxFuelRandom              Name = "sandbox.fuel-random"
	SandboxFuelForgeable           Name = "sandbox.fuel-forgeable"
	SandboxStartUnmetered          Name = "sandbox.start-unmetered"
	SandboxPagesUnlimited          Name = "sandbox.pages-unlimited"
	SandboxInitialUnchecked        Name = "sandbox.initial-unchecked"
	SandboxTableUnchecked          Name = "sandbox.table-unchecked"
	SandboxDepthUnlimited          Name = "sandbox.depth-unlimited"
	SandboxReentryUnlimited        Name = "sandbox.reentry-unlimited"
	SandboxInstancesUnlimited      Name = "sandbox.instances-unlimited"
	SandboxCapsUnchecked           Name = "sandbox.caps-unchecked"
	SandboxHostTimeFree            Name = "sandbox.host-time-free"
	SandboxMemoryShared            Name = "sandbox.memory-shared"
	SandboxGlobalsKept             Name = "sandbox.globals-kept"
	SandboxTableKept               Name = "sandbox.table-kept"
	SandboxDescriptorsKept         Name = "sandbox.descriptors-kept"
	SandboxTrappedReused           Name = "sandbox.trapped-reused"
	SandboxSpinBlocks              Name = "sandbox.spin-blocks"
	SandboxLongCallsUnbounded      Name = "sandbox.long-calls-unbounded"
	SandboxDepthShallow            Name = "sandbox.depth-shallow"
	SandboxPagesHalved             Name = "sandbox.pages-halved"
	SandboxSlicesLong              Name = "sandbox.slices-long"
	SandboxViewRecycled            Name = "sandbox.view-recycled"
	SandboxHandlesShared           Name = "sandbox.handles-shared"
	SandboxCacheOpen               Name = "sandbox.cache-open"
	SandboxDiesOnAttack            Name = "sandbox.dies-on-attack"
	SandboxAdmissionReversed       Name = "sandbox.admission-reversed"
	SandboxUnsignedTaken           Name = "sandbox.unsigned-taken"
	SandboxSignatureUnchecked      Name = "sandbox.signature-unchecked"
	SandboxScopeUnchecked          Name = "sandbox.scope-unchecked"
	SandboxReloadMixed             Name = "sandbox.reload-mixed"
	SandboxReloadDrops             Name = "sandbox.reload-drops"
	SandboxRefusedReplaces         Name = "sandbox.refused-replaces"
	SandboxRefusedElsewhere        Name = "sandbox.refused-elsewhere"
	SandboxRefusedUnnamed          Name = "sandbox.refused-unnamed"
	SandboxRefusedAs500            Name = "sandbox.refused-as-500"
	SandboxCanaryIgnored           Name = "sandbox.canary-ignored"
	SandboxVersionRollback         Name = "sandbox.version-rollback"
	SandboxDrainLeaks              Name = "sandbox.drain-leaks"
	SandboxCacheCorruptFails       Name = "sandbox.cache-corrupt-fails"
	SandboxAccountingDrifts        Name = "sandbox.accounting-drifts"
	SandboxColdstartHidden         Name = "sandbox.coldstart-hidden"
	SandboxColdstartUnchecked      Name = "sandbox.coldstart-unchecked"
	SandboxColdstartSwapped        Name = "sandbox.coldstart-swapped"
	SandboxColdstartCacheUnread    Name = "sandbox.coldstart-cache-unread"
	SandboxOverheadHidden          Name = "sandbox.overhead-hidden"
	SandboxNaiveUnwatched          Name = "sandbox.naive-unwatched"
	SandboxNnWrong                 Name = "sandbox.nn-wrong"
	SandboxNnBadHandleOk           Name = "sandbox.nn-bad-handle-ok"
	SandboxNnEncodingIgnored       Name = "sandbox.nn-encoding-ignored"
	SandboxNnOverflows             Name = "sandbox.nn-overflows"
	SandboxNnTensorUnchecked       Name = "sandbox.nn-tensor-unchecked"
	SandboxNnUnknownNameOk         Name = "sandbox.nn-unknown-name-ok"
	SandboxNnBytesOnFree           Name = "sandbox.nn-bytes-on-free"
	SandboxNnContextsUnbounded     Name = "sandbox.nn-contexts-unbounded"
	SandboxProxyMarkerIgnored      Name = "sandbox.proxy-marker-ignored"
	SandboxProxyStartBeforeCreate  Name = "sandbox.proxy-start-before-create"
	SandboxProxyConfigIgnored      Name = "sandbox.proxy-config-ignored"
	SandboxProxyHeadersLost        Name = "sandbox.proxy-headers-lost"
	SandboxProxyRequestUnedited    Name = "sandbox.proxy-request-unedited"
	SandboxProxyRemovedSent        Name = "sandbox.proxy-removed-sent"
	SandboxProxyMissingGetOk       Name = "sandbox.proxy-missing-get-ok"
	SandboxProxyPairsBigEndian     Name = "sandbox.proxy-pairs-big-endian"
	SandboxProxyTruncatedPairsOk   Name = "sandbox.proxy-truncated-pairs-ok"
	SandboxProxyBadMapOk           Name = "sandbox.proxy-bad-map-ok"
	SandboxProxyBadPointerTraps    Name = "sandbox.proxy-bad-pointer-traps"
	SandboxProxyLocalForwarded     Name = "sandbox.proxy-local-forwarded"
	SandboxProxyPauseIgnored       Name = "sandbox.proxy-pause-ignored"
	SandboxProxyImportMissing      Name = "sandbox.proxy-import-missing"
	SandboxProxyUnimplementedOk    Name = "sandbox.proxy-unimplemented-ok"
	SandboxProxyLogBeforeDone      Name = "sandbox.proxy-log-before-done"
	SandboxProxyDoneIgnored        Name = "sandbox.proxy-done-ignored"
	SandboxProxyAllocatorUnchecked Name = "sandbox.proxy-allocator-unchecked"
	SandboxProxyEnvironment        Name = "sandbox.proxy-environment"
)

var catalogueSandbox = []Entry{
	{SandboxAbsent, "the sandbox's HTTP API is not there"},
	{SandboxRunAbsent, "run-wasm exits with 2 whatever it is asked"},
	{SandboxProxyAbsent, "the proxy's port answers 502 to everything"},
	{SandboxNnAbsent, "no model is registered"},
	{SandboxInterpreterAbsent, "modules that ask for the interpreter are refused"},
	{SandboxExportUnchecked, "a missing or wrongly typed export is not noticed at admission"},
	{SandboxImportUnchecked, "an unknown import is linked to a function that traps"},
	{SandboxHostBoundsTrap, "a host function given a pointer past the end traps in place of an error code"},
	{SandboxHostPartialWrite, "a host function writes what fits before it reports a bad pointer"},
	{SandboxTrapsAsInternal, "every trap is reported as class internal"},
	{SandboxEngineDiffers, "the interpreter's i32.div_s rounds towards minus infinity (the result of run-wasm and invoke is altered)"},
	{SandboxRewriteSkipsBrTable, "the rewriter charges a loop twice that holds a br_table and drops its default arm"},
	{SandboxViewStale, "the host reads a view that it took before the guest grew its memory"},
	{SandboxCPUUnmetered, "loops are not charged"},
	{SandboxRecursionUnmetered, "function entries are not charged"},
	{SandboxBulkUnmetered, "bulk memory operations are charged as one instruction"},
	{SandboxFuelAsUnreachable, "the end of fuel is reported as class unreachable"},
	{SandboxFuelKeepsInstance, "an instance whose fuel ended goes back to the pool"},
	{SandboxFuelRandom, "a random amount of fuel is charged besides"},
	{SandboxFuelForgeable, "the original is not validated, so that a guest can set the fuel global"},
	{SandboxStartUnmetered, "start sections run without fuel"},
	{SandboxPagesUnlimited, "growth is bounded by the largest tier only"},
	{SandboxInitialUnchecked, "the initial pages are compared only when an instance is made, and the refusal is a 500"},
	{SandboxTableUnchecked, "table sizes are not limited"},
	{SandboxDepthUnlimited, "call depth is not counted"},
	{SandboxReentryUnlimited, "host and guest may call each other up to a depth of 4,096"},
	{SandboxInstancesUnlimited, "the tier's number of instances is ignored"},
	{SandboxCapsUnchecked, "size, functions, locals and data of a module are not limited"},
	{SandboxHostTimeFree, "time in host functions is not charged"},
	{SandboxMemoryShared, "a new instance gets the memory of the last one uncleared"},
	{SandboxGlobalsKept, "a pooled instance keeps its globals"},
	{SandboxTableKept, "a pooled instance keeps its table"},
	{SandboxDescriptorsKept, "a pooled instance keeps its open files"},
	{SandboxTrappedReused, "a trapped instance goes back to the pool"},
	{SandboxSpinBlocks, "one call at a time runs in the whole sandbox"},
	{SandboxDepthShallow, "recursion stops at a tenth of the limit"},
	{SandboxPagesHalved, "a memory grows to half of the tier's pages"},
	{SandboxSlicesLong, "a guest gets 4,000 times the fuel before it comes to a safepoint"},
	{SandboxLongCallsUnbounded, "every long call runs at once, on all processors"},
	{SandboxViewRecycled, "the buffer of a closed memory goes to the next instance while a view of it is in use"},
	{SandboxHandlesShared, "graph and context handles are one table for all instances"},
	{SandboxCacheOpen, "the compilation cache is readable by everyone"},
	{SandboxDiesOnAttack, "a memory-bounds trap ends the process"},
	{SandboxAdmissionReversed, "structure is checked before the signature"},
	{SandboxUnsignedTaken, "a missing signature is taken"},
	{SandboxSignatureUnchecked, "the signature's bytes are not verified"},
	{SandboxScopeUnchecked, "name, version and tenant are not part of what is signed"},
	{SandboxReloadMixed, "for a while after a reload answers carry the new version's tag with the old version's result"},
	{SandboxReloadDrops, "a reload ends calls in flight with 503"},
	{SandboxRefusedReplaces, "a refused upload takes the old version out of service"},
	{SandboxRefusedElsewhere, "every refusal names a step that did not refuse"},
	{SandboxRefusedUnnamed, "a refusal gives no reason"},
	{SandboxRefusedAs500, "refusals have status 500"},
	{SandboxCanaryIgnored, "a version whose canary fails is published"},
	{SandboxVersionRollback, "a lower or equal version is taken"},
	{SandboxDrainLeaks, "the memory of replaced versions stays accounted"},
	{SandboxCacheCorruptFails, "a damaged cache entry is an error"},
	{SandboxAccountingDrifts, "closing an instance gives back one page less"},
	{SandboxColdstartHidden, "the statistics leave out start and end points"},
	{SandboxColdstartUnchecked, "the answer is not compared in the measurement of a cold start"},
	{SandboxColdstartSwapped, "the percentiles of a measurement change places"},
	{SandboxColdstartCacheUnread, "a start from disk compiles the module again"},
	{SandboxOverheadHidden, "the naive column is left out of the measurement of overheads"},
	{SandboxNaiveUnwatched, "the naive form is measured on a runtime that watches no context"},
	{SandboxNnWrong, "compute scales its output by 1.01"},
	{SandboxNnBadHandleOk, "an unknown graph or context answers success"},
	{SandboxNnEncodingIgnored, "every encoding is taken for the registered one"},
	{SandboxNnOverflows, "get_output writes past max_size"},
	{SandboxNnTensorUnchecked, "dimensions are not compared with the length of the data"},
	{SandboxNnUnknownNameOk, "load_by_name of an unregistered model gives the first registered one"},
	{SandboxNnBytesOnFree, "load of guest bytes is tried on every tier"},
	{SandboxNnContextsUnbounded, "execution contexts are not limited"},
	{SandboxProxyMarkerIgnored, "a module without an ABI marker is loaded"},
	{SandboxProxyStartBeforeCreate, "proxy_on_vm_start comes before proxy_on_context_create"},
	{SandboxProxyConfigIgnored, "false from vm_start or configure is ignored"},
	{SandboxProxyHeadersLost, "replaced header values do not reach the upstream"},
	{SandboxProxyRequestUnedited, "the upstream gets the headers as the client sent them"},
	{SandboxProxyRemovedSent, "response headers that the filter removed reach the client"},
	{SandboxProxyMissingGetOk, "getting a missing header is OK with an empty value"},
	{SandboxProxyPairsBigEndian, "counts in header maps are big-endian"},
	{SandboxProxyTruncatedPairsOk, "a truncated map is taken as far as it goes"},
	{SandboxProxyBadMapOk, "an unknown map id is taken for map 0"},
	{SandboxProxyBadPointerTraps, "a bad pointer traps the filter"},
	{SandboxProxyLocalForwarded, "the upstream is called in spite of a local response"},
	{SandboxProxyPauseIgnored, "a paused request goes on at once"},
	{SandboxProxyImportMissing, "one of the listed imports does not link"},
	{SandboxProxyUnimplementedOk, "functions without effect return OK"},
	{SandboxProxyLogBeforeDone, "proxy_on_log comes before proxy_on_done"},
	{SandboxProxyDoneIgnored, "proxy_on_done = false does not wait for proxy_done"},
	{SandboxProxyAllocatorUnchecked, "an allocation of 0 is written to"},
	{SandboxProxyEnvironment, "the host's environment is visible"},
}
