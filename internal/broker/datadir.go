package broker

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"kafkachat/internal/wire"
)

// openDir makes the DataDir if it is missing, keeps other processes out of it until the lock is
// closed, and leaves in it what kfake can read. It returns the folders of partitions with records.
//
// kfake would do worse. With a snapshot.json it cuts a segment before what it cannot read, but looks
// for what it appends where the snapshot says that the file ended: nobody can read that, ever.
// Without one it goes on with the next segment, and no reader is told of the hole. So snapshots and
// indexes go, which say nothing that the segments do not, and what kfake knows of producers and of its
// own settings.
func (b *Broker) openDir() (folders []string, err error) {
	dir := b.cfg.DataDir
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b.lock = flock.New(filepath.Join(dir, "lock"), flock.SetPermissions(0o600))
	if locked, err := b.lock.TryLock(); err != nil || !locked {
		return nil, cmp.Or(err, errors.New("another process is using it"))
	}
	segments := make(map[string][]int64) // by folder, the offsets where they begin
	err = filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
		switch name := filepath.Base(file); {
		case err != nil:
			return err
		case filepath.Ext(name) == ".idx", slices.Contains([]string{"snapshot.json", "pids.log", "seq_windows.json", "broker_configs.json"}, name):
			return os.Remove(file)
		case filepath.Ext(name) == ".dat":
			if base, err := strconv.ParseInt(strings.TrimSuffix(name, ".dat"), 10, 64); err == nil {
				segments[filepath.Dir(file)] = append(segments[filepath.Dir(file)], base)
			}
		}
		return nil
	})
	for folder, bases := range segments {
		slices.Sort(bases)
		folders, err = append(folders, folder), errors.Join(err, b.checkPartition(folder, bases))
	}
	return folders, err
}

// checkPartition leaves of a partition's segments what can be read, and copies of the others.
func (b *Broker) checkPartition(folder string, bases []int64) error {
	next, damaged := bases[0], false
	for _, base := range bases {
		file := filepath.Join(folder, fmt.Sprintf("%d.dat", base))
		segment, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		good := 0
		damaged = damaged || base != next && len(segment) > 0 // a segment is missing
		for !damaged && good < len(segment) {
			batch, size, err := wire.ReadBatch(segment[good:])
			if damaged = err != nil || batch.FirstOffset != next || batch.PartitionLeaderEpoch != 0; !damaged {
				good += size
				next += int64(batch.NumRecords)
			}
		}
		if good == len(segment) {
			continue
		}
		saved := file + time.Now().Format(".damaged-20060102-150405")
		if err := errors.Join(os.WriteFile(saved, segment, 0o600), os.Truncate(file, int64(good))); err != nil {
			return err
		}
		b.cfg.Log.Warn("records cannot be read, or some before them are missing: their partition ends before them now",
			"file", file, "byte", good, "offset", next, "copy", saved)
	}
	return nil
}

// countPartitions counts those of the topics that have records, and fails if there are records without
// a topic: kfake would make the topic anew, and append to the segments of the old one.
func (b *Broker) countPartitions(folders []string) error {
	for _, folder := range folders {
		dash := strings.LastIndexByte(folder, '-')
		topic := filepath.Base(folder[:dash])
		b.partitions[topic] = len(b.kfake.PartitionInfos(topic))
		if n, err := strconv.Atoi(folder[dash+1:]); err != nil || n >= b.partitions[topic] {
			return fmt.Errorf("DATA_DIR: %s has records, but topics.json and meta.json do not name its topic: "+
				"restore these two from a copy, or move the folder away", folder)
		}
	}
	return nil
}
