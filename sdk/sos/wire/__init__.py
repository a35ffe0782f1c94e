"""The wire: what every part of the bus agrees on. Imports nothing of ours from outside this folder."""
