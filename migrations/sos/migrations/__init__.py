"""Numbered migrations of the views: `NNNN_title.sql` from 0001, applied in order. Never edit a released one."""
