"""What makes an evaluation doubtful, one file a check; each looks and says nothing or a finding."""
