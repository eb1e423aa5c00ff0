// Verifies an exported log with golang.org/x/mod/sumdb, which knows nothing of Zhiwang: the checkpoint's signature with
// note, every leaf hash against the signed root with tlog's own tile reader, and every entry against its leaf hash.
//
//	verify DIR
//
// Prints the number of entries that hold.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

type reader struct{ dir string }

func (r reader) Height() int { return height }

// path turns Go's own tile path (tile/8/L/N) into that of C2SP tlog-tiles (tile/L/N).
func path(t tlog.Tile) string {
	return strings.Replace(t.Path(), "tile/8/", "tile/", 1)
}

func (r reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		found, err := os.ReadFile(filepath.Join(r.dir, path(t)))
		if err != nil {
			return nil, err
		}
		data[i] = found
	}
	return data, nil
}

func (r reader) SaveTiles([]tlog.Tile, [][]byte) {}

func entries(dir string, size, bundle int64) [][]byte {
	t := tlog.Tile{H: height, L: 0, N: bundle, W: 1 << height}
	if rest := size - bundle<<height; rest < 1<<height {
		t.W = int(rest)
	}
	name := strings.Replace(path(t), "tile/0/", "tile/entries/", 1)
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		log.Fatal(err)
	}
	var found [][]byte
	for len(data) > 0 {
		length := int(binary.BigEndian.Uint16(data))
		found = append(found, data[2:2+length])
		data = data[2+length:]
	}
	return found
}

func main() {
	dir := os.Args[1]
	vkey, err := os.ReadFile(filepath.Join(dir, "log.vkey"))
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := note.NewVerifier(string(bytes.TrimSpace(vkey)))
	if err != nil {
		log.Fatal(err)
	}
	signed, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		log.Fatal(err)
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		log.Fatal(err)
	}
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil {
		log.Fatal(err)
	}
	tree := tlog.Tree{N: size}
	copy(tree.Hash[:], root)
	hashes := tlog.TileHashReader(tree, reader{dir})
	indexes := make([]int64, size)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, int64(i))
	}
	leaves, err := hashes.ReadHashes(indexes)
	if err != nil {
		log.Fatal(err)
	}
	count := int64(0)
	for bundle := int64(0); bundle<<height < size; bundle++ {
		for _, entry := range entries(dir, size, bundle) {
			if tlog.RecordHash(entry) != leaves[count] {
				log.Fatalf("entry %d is not under its leaf hash", count)
			}
			count++
		}
	}
	if count != size {
		log.Fatalf("%d entries under a checkpoint of %d", count, size)
	}
	fmt.Println(count)
}
