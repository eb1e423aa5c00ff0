// Verifies one C2SP tlog-proof with golang.org/x/mod/sumdb, which knows nothing of Zhiwang: the checkpoint's signature
// with note, the entry's place in its tree with tlog.
//
//	proof ENTRY TLOG-PROOF VKEY
//
// Prints the log's origin, the entry's index and the size of the tree.
package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func read(name string) []byte {
	data, err := os.ReadFile(name)
	if err != nil {
		log.Fatal(err)
	}
	return data
}

func hash(text string) tlog.Hash {
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(data) != tlog.HashSize {
		log.Fatalf("not a hash: %q", text)
	}
	var h tlog.Hash
	copy(h[:], data)
	return h
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != text {
		log.Fatalf("not a number: %q", text)
	}
	return n
}

func main() {
	entry, proof, vkey := read(os.Args[1]), read(os.Args[2]), read(os.Args[3])
	head, signed, found := bytes.Cut(proof, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		log.Fatal("not a tlog-proof")
	}
	index := number(strings.TrimPrefix(lines[1], "index "))
	path := make(tlog.RecordProof, 0, len(lines))
	for _, line := range lines[2:] {
		path = append(path, hash(line))
	}
	verifier, err := note.NewVerifier(string(bytes.TrimSpace(vkey)))
	if err != nil {
		log.Fatal(err)
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		log.Fatal(err)
	}
	checkpoint := strings.Split(opened.Text, "\n")
	size := number(checkpoint[1])
	if err := tlog.CheckRecord(path, size, hash(checkpoint[2]), index, tlog.RecordHash(entry)); err != nil {
		log.Fatal(err)
	}
	fmt.Println(checkpoint[0], index, size)
}
