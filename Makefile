# make help lists the targets.
export GOTOOLCHAIN := auto

.PHONY: help run test prove ci golden
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
run: ## judge the reference stack
	go run ./cmd/assay run
test: ## all tests
	go test ./...
prove: ## show that every check can fail
	go run ./cmd/assay prove
golden: ## rewrite the reports' golden files; read the difference before you commit it
	go test ./reports -update
ci: ## everything that must hold before a change lands
	bash .ci/run
