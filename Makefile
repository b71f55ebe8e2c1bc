# Every target may be called again at any time: what is there already is neither installed nor built twice.
SHELL := /bin/bash
WITH ?= installed
ALL := installed 1.26 1.28 1.30 static bare

.PHONY: help
help:
	@echo 'make run             build the module, start the installed nginx with it and print the address of a page'
	@echo 'make run CONF=log    the same with another example of conf/'
	@echo 'make test            cargo test, t/ against the installed nginx, and client/ in Chromium; T="t/a.t t/b.t" picks files'
	@echo 'make test WITH=1.28  t/ against nginx 1.28, built from source; WITH=trixie, WITH=sid: the one of that suite of Debian;'
	@echo '                    WITH=/path/to/source: the one of that source tree; WITH=static: the module is linked into it;'
	@echo '                    WITH=bare: t/bare.t against one without regular expressions and TLS; WITH=all: each of them'
	@echo 'make test WITH=late  t/channel-*.t with a backend behind the channels that answers later; WITH=shuffled: in any order, by SEED'
	@echo 'make test-client     client/ for longer, in Chromium, Firefox and WebKitGTK; BROWSER=firefox picks one'
	@echo 'make test-debug      t/ with every error log at the level debug, where nginx looks into each event that it has'
	@echo 'make test-sanitize   t/ with an nginx built with AddressSanitizer and without memory pools'
	@echo 'make test-valgrind   t/ with the module under valgrind'
	@echo 'make chaos MINUTES=n clients of everything, while nodes and an engine are killed, reloaded, exchanged and cut off for so long (10):'
	@echo '                    what was promised, and what is left; SEED=n, ENGINE=none, single, sentinel, replicas or cluster'
	@echo 'make soak HOURS=n    a mixed load on one nginx for so long (1): whether memory, descriptors, processes or the zone grow, and whether a'
	@echo '                    message is lost; CONNECTIONS=n (10000), SEED=n, RELOADS=minutes (30); a picture in target/soak'
	@echo 'make fuzz MINUTES=n  each fuzz target for so many minutes of a core (1); T="frame lines" picks some, MERGE=1 keeps what is new'
	@echo 'make test-monitoring the dashboard and the alerts of conf/monitoring, by a Prometheus that scrapes nginx'
	@echo 'make check           formatting, lints and documentation, warnings are errors'
	@echo 'make docs            docs/ as a book in target/book, by mdBook'
	@echo 'make module          target/ws-exec, and target/ngx_ws_exec.so for the nginx of NGINX_SOURCE_DIR and NGINX_BUILD_DIR, else the installed one'
	@echo 'make install         the module, ws-exec and manual pages below PREFIX (/usr/local); DESTDIR and MODULESDIR as usual'
	@echo 'make vendor          a source tarball that builds without network; make deb, make rpm, make image: packages from it'
	@echo 'make test-package    the package of Debian in a system that systemd-nspawn boots, and by piuparts;'
	@echo '                    DISTRO=trixie: the one that make test-distro DISTRO=trixie TARGETS=deb has made'
	@echo 'make test-distro DISTRO=trixie   make run and make test in a fresh minimal Debian; bookworm, sid; TARGETS="..." picks'
	@echo 'make release         all of target/dist with SBOM and checksums; scripts/release.sh --check compares two builds'
	@echo 'make bench           the measurements of docs/performance.md; BENCH="exec ws" picks some'
	@echo 'make count COMMIT=a  instructions of a worker for a message, a publication, a delivery, by callgrind, beside another commit'
	@echo 'make clean           removes target/ and what is built of client/'

.PHONY: module
module:
	@scripts/build-module.sh installed
	@scripts/build-command.sh

.PHONY: install
install:
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' MODULESDIR='$(MODULESDIR)' scripts/install.sh

# What is given to others, in target/dist.
.PHONY: vendor deb rpm image release
vendor deb rpm image release:
	@scripts/$@.sh

.PHONY: test-package
test-package:
	@scripts/test-package.sh $(DISTRO)

.PHONY: test-distro
test-distro:
	@scripts/test-distro.sh '$(DISTRO)' $(or $(TARGETS),test)

.PHONY: run
run:
	@scripts/run.sh

.PHONY: test
# Several can be named.
WITHS := $(if $(filter all,$(WITH)),$(ALL),$(WITH))
ifneq ($(words $(WITHS)),1)
test: unit-test
	@failed=; for with in $(WITHS); do scripts/test.sh $$with $(T) || failed+=" $$with"; done; \
	[ -z "$$failed" ] || { for with in $$failed; do echo "== $$with"; grep -v '\.\. ok$$' target/log/t-$$with.log | tail -n 60; done; \
	echo "failed with:$$failed"; exit 1; } >&2
	@$(client-test)
else
test: $(if $(filter installed,$(WITH)),unit-test)
	@scripts/test.sh $(WITH) $(T)
	@$(if $(filter installed,$(WITH)),$(client-test))
endif

# Not where files of t/ were picked.
client-test = $(if $(T),:,scripts/client.sh test)

.PHONY: test-client
test-client:
	@scripts/client.sh test-long $(BROWSER)

.PHONY: unit-test
# The module is linked by one processor, for a minute or two; the tests are compiled meanwhile.
unit-test:
	@scripts/install-test-needs.sh
	@scripts/build-module.sh installed & module=$$!; cargo test --quiet --locked --workspace; tested=$$?; \
	wait "$$module" && exit "$$tested"

.PHONY: test-debug
test-debug:
	@scripts/test.sh debug $(T)

.PHONY: test-sanitize
test-sanitize:
	@scripts/test.sh sanitize $(T)

.PHONY: chaos
chaos:
	@scripts/chaos.sh $(MINUTES)

.PHONY: soak
soak:
	@scripts/soak.sh $(HOURS)

.PHONY: fuzz
fuzz:
	@scripts/fuzz.sh '$(or $(MINUTES),1)' $(T)

.PHONY: test-valgrind
test-valgrind:
	@scripts/test.sh valgrind $(T)

.PHONY: test-monitoring
test-monitoring:
	@scripts/test-monitoring.sh

.PHONY: bench
bench:
	@scripts/bench.sh $(BENCH)

.PHONY: count
count:
	@scripts/count.sh $(COMMIT)

.PHONY: docs
docs:
	@scripts/docs.sh

.PHONY: check
check:
	@scripts/check.sh

.PHONY: clean
clean:
	@rm -rf target t/servroot* client/dist client/terminal/dist
