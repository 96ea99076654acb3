"""A MongoDB change, from the BSON of a change stream to the frames of a subscription."""
