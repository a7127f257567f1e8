# One profile for everything: torch-sys compiles C++ for minutes, once for each profile.
PYTHON ?= python3
CARGO ?= cargo
LOGDIR ?= logs
ARGS ?=
# Not from the environment, in which other programs may set a variable of this name.
DATASET = mnist
export PYTHON CARGO

VENV := .deps/venv
TRAINER := $(or $(CARGO_TARGET_DIR),target)/release/trainer
step := scripts/step
# One environment for all comparisons: PyTorch is 2 GB.
PEERS := scripts/peers/requirements.txt scripts/peers/requirements-explain.txt
# Except Keras: its TensorFlow conflicts with the others.
KERAS := scripts/peers/requirements-keras.txt

.DEFAULT_GOAL := help
# One target at a time: they share the disk, the network and the cores.
.NOTPARALLEL:

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*## "; print "usage: make TARGET [ARGS=...]\n"} \
	     /^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\n%s\n' "ARGS go to the trainer: make run ARGS='--epochs 2 --seed 7'." \
	     "A libtorch of your own: LIBTORCH=/path/to/libtorch make run. Nothing of libtorch is fetched then."

.PHONY: run
run: data build ## Train 5 epochs of MNIST into logs/fit, fetching and building what is missing (ARGS=...).
	$(TRAINER) --logdir $(LOGDIR)/fit $(if $(filter-out mnist,$(DATASET)),--dataset $(DATASET)) $(ARGS)

.PHONY: tensorboard
tensorboard: venv ## Serve the log directory in TensorBoard on http://localhost:6006.
	$(VENV)/bin/python -m tensorboard.main --logdir $(LOGDIR)

.PHONY: test
test: data build ## Run all tests: Rust, then stock TensorBoard reading what the trainer wrote.
	@$(step) 'cargo test' $(CARGO) test --release --locked
	@$(step) 'Python tests' $(VENV)/bin/python -m pytest -q tests

.PHONY: reliability
reliability: build ## Test runs by kills, full disks, stops and damage, write docs/reliability.md (an hour; ARGS=--quick: 3 minutes).
	$(VENV)/bin/python scripts/reliability $(if $(ARGS),$(ARGS),--write)

.PHONY: check
check: setup ## Check formatting, lints, documentation and the architecture's rules.
	@$(step) 'cargo fmt' $(CARGO) fmt --check
	@$(step) 'cargo clippy' $(CARGO) clippy --release --locked --all-targets -- -D warnings
	@RUSTDOCFLAGS='-D warnings' $(step) 'cargo doc' $(CARGO) doc --release --locked --no-deps --document-private-items
	@$(step) 'tidy' $(CARGO) test --release --locked --test tidy

.PHONY: build
build: setup ## Build target/release/trainer.
	@$(step) 'cargo build' $(CARGO) build --release --locked

.PHONY: rootfs
rootfs: build ## Put the program and its run-time files, the contents of an image, into target/rootfs.
	$(PYTHON) scripts/rootfs.py $(ARGS)

.PHONY: setup
setup: venv ## Fetch libtorch and a Python environment with TensorBoard into .deps, once.
	@$(step) 'libtorch' $(PYTHON) scripts/libtorch.py

.PHONY: venv
venv: prerequisites
	@$(step) 'Python environment' $(PYTHON) scripts/venv.py $(VENV) scripts/requirements.txt

.PHONY: prerequisites
prerequisites:
	@scripts/prerequisites.sh

.PHONY: data
data: prerequisites ## Fetch and verify MNIST into data/mnist, once (DATASET=fashion-mnist: that one).
	@$(step) '$(DATASET)' $(PYTHON) scripts/data.py $(DATASET)

.PHONY: explanations
explanations: data build ## Compare explanations with pytorch-grad-cam and Captum, write docs/explanations.md (about 8 minutes).
	@$(step) 'reference libraries' $(PYTHON) scripts/venv.py .deps/peers $(PEERS)
	.deps/peers/bin/python scripts/explanations.py --trainer $(TRAINER) $(ARGS)

.PHONY: build-times
build-times: ## Compare first builds of two revisions (ARGS="main HEAD --rounds 3"; about 10 minutes a build).
	$(PYTHON) scripts/build_times.py $(ARGS)

.PHONY: photos
photos: data build ## Draw photographs of digits, classify them with a network, write docs/photos.md (about 8 minutes).
	$(VENV)/bin/python scripts/photos --trainer $(TRAINER) $(ARGS)

.PHONY: parity
parity: data build ## Compare accuracy with the same model in PyTorch, seeds 0, 1, 2 (about 10 minutes).
	@$(step) 'PyTorch environment' $(PYTHON) scripts/venv.py .deps/peers $(PEERS)
	$(VENV)/bin/python scripts/parity.py --trainer $(TRAINER) --peer-python .deps/peers/bin/python $(ARGS)

.PHONY: bench
bench: data build ## Measure against peers and write docs/benchmarks.md (about two hours, an idle machine).
	@$(step) 'PyTorch environment' $(PYTHON) scripts/venv.py .deps/peers $(PEERS)
	@$(step) 'Keras environment' $(PYTHON) scripts/venv.py .deps/peers-keras $(KERAS)
	$(VENV)/bin/python scripts/bench --trainer $(TRAINER) --peer-python .deps/peers/bin/python \
		--keras-python .deps/peers-keras/bin/python $(ARGS)

.PHONY: instructions
instructions: setup ## Compare instructions of log and step with benches/instructions.json (valgrind; ARGS=--write updates).
	$(PYTHON) scripts/instructions.py $(ARGS)

.PHONY: scaling
scaling: data build ## Measure how a step scales with threads, write docs/scaling.md (about 5 minutes, an idle machine).
	$(VENV)/bin/python scripts/scaling.py --trainer $(TRAINER) $(ARGS)

.PHONY: screenshots
screenshots: venv ## Take screenshots of TensorBoard's tabs for the log directory into target/screenshots.
	@$(step) 'browser driver' $(PYTHON) scripts/venv.py .deps/screenshots scripts/requirements.txt scripts/requirements-screenshots.txt
	.deps/screenshots/bin/python scripts/screenshots.py --logdir $(LOGDIR) --out target/screenshots $(ARGS)

.PHONY: clean
clean: ## Remove build outputs; keep libtorch, data sets and logs.
	$(CARGO) clean

.PHONY: distclean
distclean: clean ## Remove everything fetched as well; keep logs.
	rm -rf .deps data
