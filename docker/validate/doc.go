// Package validate holds the tests of the container files beside it: the compose file against the compose
// specification's own loader, the Kubernetes manifests against the types of the Kubernetes API, the TestRun
// against the fields that k6-operator documents, and, where a docker daemon answers, the real run of the
// compose file. It is a module of its own, so that nothing else depends on any of that.
package validate
