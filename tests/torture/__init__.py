"""The real process, ended at any moment and at any call, against a platform that survives it and remembers every POST.

Promises, and what is meant by them:

- After the last run the rows are those of an undisturbed one, and ``verify`` finds no difference.
- At every end of a process the committed rows are already sound, and an exit code of 0 or 3 means all of them.
- An answer is *held* for a video and a prompt group from the moment that a page with the video, or the end of a
  complete walk over it, is committed in the ledger: spooled, or settled. No later POST of that group names the video.
  No failure rule is an exception: whatever goes wrong, only what is missing is posted again.
- Behind a held page token the platform is asked with the token first, and posted to only when that brought the video
  no answer.
- A POST is *repeated* by an end of a process where it was executed before, and one of its pairs of video and prompt
  group that was not held by then is posted again afterwards: at most one for each worker. What a finished walk owed
  (``total_results``) is not counted, for it is posted again in any case.

``python -m tests.torture`` is the long form; ``tests/test_torture.py`` has a short one.
"""
