"""What the words of the report mean, and what a broken run looks like: texts by name."""

from __future__ import annotations

GLOSSARY = {
    "Clip": "A few frames of a video, some seconds long, which the model sees at once.",
    "View": "One of the clips, evenly spread over a test video, that are scored. 20 x 1: 20 views of one crop each.",
    "mAP": "Mean average precision. For each class, test videos are ranked by their score; AP is the mean precision at "
    "the videos that show the class, and mAP the mean over the classes that have test videos.",
    "mAP, max over views (%)": "A video's score for a class is its highest over the views.",
    "mAP, mean over views (%)": "A video's score for a class is the mean over the views.",
    "Per-time mAP (%)": "Ranks moments instead of videos: does the action happen at this view? Needs true intervals.",
    "95 % interval": "How far the score depends on the test videos chosen. They are redrawn with replacement, up to "
    "1,000 times, and scored each time; the interval is the middle 95 % of that. Differences use the same draws.",
    "Regime": "How a video's labels are used for its clips. Noisy: every clip has all of the video's labels. Ours: "
    "AdaptFocus, which finds when an action happens. Full: true intervals, as an upper reference.",
    "Saliency": "How likely the model finds an action at a time of a video, kept in bins over the video.",
    "Spike": "The highest bin of an action's saliency; its height is the spike-actionness.",
    "Salient time": "Where the spike is: when the model believes the action happens.",
    "Salient times inside a true interval (%)": "How often the salient time is where the action truly is.",
    "… of random moments (%)": "What moments drawn at random would score: the share of a video that its actions cover.",
    "Found": "A class whose spikes stand out more in videos with the tag than in videos without it, more clearly than "
    "chance explains. It needs no intervals, and does not say that the salient times are right.",
    "Clip focusing": "Positives far from an action's salient time are masked: they do not count as positives there.",
    "Weak negatives": "Masked positives that count as negatives, with the weight focus.background_weight.",
    "Explore, focus": "A clip is drawn anywhere in its video (explore), around an action's salient time (focus), or "
    "where the score of plan.resample_by is high.",
    "Test index": "The beginning of the fingerprint of the index that was scored. Equal: the same videos and labels.",
    "Ledger": "The count of every planned clip, from the store: each must be trained exactly once.",
}

# Lower-case name of a chart -> what it shows, and what it looks like when something is wrong.
CHART_NOTES = {
    "training loss": (
        "Regimes weigh positives differently: compare the shapes of their losses, not the heights. "
        "Broken: not a number, or no lower after two epochs."
    ),
    "positives left unmasked": (
        "Clip focusing keeps the positives near the salient time. In Ours, broken: still 100 after warm-up (nothing is "
        "masked), or below about 5 (training starves). In Noisy and Full it is always 100."
    ),
    "mean spike-actionness": (
        "How sure the model is at each action's spike. It should rise after warm-up. Broken: flat for several epochs, "
        "the model has found no action."
    ),
    "precision of weak negatives": (
        "Labels far from their salient times count as negatives: the share of their weight on clips that do not "
        "show the action. None before weak negatives begin. Broken: no higher than 100 minus random moments."
    ),
    "precision of weighted positives": (
        "Share of the positives' weight on clips that truly show the action. Broken, in Ours: still at the "
        "line of random moments after warm-up; training then learns from clips without the action."
    ),
    "salient times inside a true interval": (
        "How often the spike is where the action truly is. Broken: after warm-up no higher than random moments."
    ),
    "temperature over median p": (
        "Softness of the weights relative to the scores. Broken: well above 1 at the end, all clips then weigh alike; "
        "near 0 a single clip decides."
    ),
}
