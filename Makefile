# Every recipe is one Python line: without make, run tools/bootstrap.py once and then the line after $(RUN) yourself.
PYTHON ?= python3
VENV ?= .venv
PART ?= digits
ARGS ?=
ifeq ($(OS),Windows_NT)
  RUN = "$(VENV)/Scripts/python.exe"
else
  RUN = "$(VENV)/bin/python"
endif

.DEFAULT_GOAL := help
.PHONY: help env lab test test-all course notebooks check lint train bench book test-ui doctor clean

help:  ## this list
	@$(PYTHON) tools/housekeeping.py help

env:  # made once; a second run starts at once
	@$(PYTHON) tools/bootstrap.py --venv "$(VENV)" --for "$(MAKECMDGOALS)" -- $(ARGS)

lab: env  ## open JupyterLab on the first lesson          (ARGS="--no-browser --port 9000")
	@$(RUN) -m tools.lab $(ARGS)

test: env  ## unit tests and notebooks; in parts what is long (ARGS="-k schedules")
	@$(RUN) -m tools.test $(ARGS)

test-all:  ## everything whole, in a browser too (needs Chromium)
	@$(PYTHON) tools/bootstrap.py --venv "$(VENV)" --extra book --extra ui
	@$(RUN) -m tools.test --all
	@$(RUN) -m tools.test_ui --all

course: env  ## run every lesson, write HTML and the cost card (ARGS="--write 03")
	@$(RUN) -m tools.course $(ARGS)

notebooks: env  ## build the notebooks whose source changed     (ARGS="--all")
	@$(RUN) -m tools.notebooks build $(ARGS)

check: env  ## check that the notebooks are what their sources build
	@$(RUN) -m tools.notebooks check $(ARGS)

lint: env  ## ruff over package, tools, tests and lesson sources
	@$(RUN) -m ruff check $(ARGS) .

train: env  ## train the shipped weights again             (PART=digits)
	@$(RUN) -m tools.train $(PART) $(ARGS)

bench: env  ## measure speed on this machine
	@$(RUN) -m bench $(ARGS)

book:  ## the book as HTML in build/book/html            (ARGS="--fresh")
	@$(PYTHON) tools/bootstrap.py --venv "$(VENV)" --extra book --for book -- $(ARGS)
	@$(RUN) -m tools.book $(ARGS)

test-ui:  ## book and lessons in a browser (needs Chromium)  (ARGS="tests_ui/test_book.py")
	@$(PYTHON) tools/bootstrap.py --venv "$(VENV)" --extra book --extra ui
	@$(RUN) -m tools.test_ui $(ARGS)

doctor: env  ## is this machine ready, and what to do if not
	@$(RUN) -m diffusion_course doctor $(ARGS)

clean:  ## remove what was built or cached (keeps .venv)
	@$(PYTHON) tools/housekeeping.py clean
