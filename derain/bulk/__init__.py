"""Behind `derain bulk`: archives of images, on this machine or a cluster, on disks or in buckets."""
