import os

# Importing these registers a device for the whole process; test_fakegpu.py starts one for them.
collect_ignore = [] if os.environ.get("TORCHMOTIF_FAKE_GPU") else ["backend.py", "device_checks.py"]
