"""The turns and labels of a conversation, in memory and saved."""
