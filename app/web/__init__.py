"""What `serve` answers over HTTP: health for machines, pages for people."""
