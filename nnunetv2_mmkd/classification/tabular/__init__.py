"""Tables and volumes with any of them missing per subject, as in ADNI."""
