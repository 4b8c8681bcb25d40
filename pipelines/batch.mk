# Runs a pipeline over a folder, safe under `make -j`, restartable after any interruption.
#
#   IMGEDIT_PIPELINE := remove-date-stamp
#   IMGEDIT_IN       := photos
#   IMGEDIT_OUT      := done
#   include batch.mk          # then: make -j4 imgedit
#
# A picture is done when its JSON lies in IMGEDIT_OUT: imgedit writes it last, whole or not at all. A mask beside its
# picture (x.mask.png beside x.png) is read with it and is no picture of its own.
# Names with blanks, % or : cannot work in make: rename these pictures, or do without it, for
# `imgedit run PIPELINE FOLDER -o FOLDER` takes any name.

IMGEDIT          ?= imgedit
IMGEDIT_PIPELINE ?= remove-date-stamp
IMGEDIT_IN       ?= in
IMGEDIT_OUT      ?= out
IMGEDIT_FLAGS    ?=

imgedit_kinds   := jpg JPG jpeg JPEG png PNG webp tif tiff bmp
imgedit_planes  := mask hint difference
imgedit_files   := $(foreach kind,$(imgedit_kinds),$(wildcard $(IMGEDIT_IN)/*.$(kind)))
imgedit_beside  := $(foreach plane,$(imgedit_planes),\
                     $(patsubst %,%.$(plane).png,$(basename $(filter %.png %.PNG,$(imgedit_files)))))
imgedit_inputs  := $(filter-out $(imgedit_beside),$(imgedit_files))
imgedit_stems   := $(notdir $(basename $(imgedit_inputs)))
imgedit_targets := $(imgedit_stems:%=$(IMGEDIT_OUT)/%.png.json)

ifneq ($(wildcard $(IMGEDIT_IN)/*\ *),)
$(error imgedit: make cannot handle blanks in names, and $(IMGEDIT_IN) has some: imgedit run can)
endif
ifneq ($(words $(imgedit_stems)),$(words $(sort $(imgedit_stems))))
$(error imgedit: two pictures in $(IMGEDIT_IN) differ in their endings only: rename one of them)
endif

.PHONY: imgedit
imgedit: $(imgedit_targets)
	@test -n '$(imgedit_targets)' || { echo 'imgedit: there are no pictures in $(IMGEDIT_IN)' >&2; exit 1; }

# a pipeline file that is edited makes its pictures anew; a shipped one is no file here
imgedit_recipe := $(wildcard $(IMGEDIT_PIPELINE))

define imgedit_rule
$(IMGEDIT_OUT)/%.png.json: $(IMGEDIT_IN)/%.$(1) $(imgedit_recipe) | $(IMGEDIT_OUT)
	$$(IMGEDIT) run $$(IMGEDIT_PIPELINE) $$< -o $$(@:.json=) $$(IMGEDIT_FLAGS)
endef
$(foreach kind,$(imgedit_kinds),$(eval $(call imgedit_rule,$(kind))))

$(IMGEDIT_OUT):
	mkdir -p $@
