// A program of a department that asks its agent. It knows nothing of Zhiwang but the packed .proto files.
//
//	caller TARGET [CA [CERTIFICATE KEY] SERVER_NAME]
//
// Each line of standard input is a command, its words separated by tabs; what comes of it goes to standard output, and
// ends with the line "done". The parts between "begin" and "end" are the examples in the pack's README.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	api "zhiwang.dev/proto/zhiwang/verification/v1"
)

// begin: connect
func connect(target string) (*grpc.ClientConn, error) {
	return grpc.Dial(target, grpc.WithInsecure())
}

// end: connect

// begin: tls
func connectTLS(target, ca, certificate, key, serverName string) (*grpc.ClientConn, error) {
	own, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + ca)
	}
	// The agent's certificate names what it is, agent.<city>.zhiwang.internal, and not the host on which it runs.
	return grpc.Dial(target, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{own},
		RootCAs:      roots,
		ServerName:   serverName,
	})))
}

// end: tls

// connectUnnamed has no certificate of its own, to see it refused.
func connectUnnamed(target, ca, serverName string) (*grpc.ClientConn, error) {
	trusted, err := credentials.NewClientTLSFromFile(ca, serverName)
	if err != nil {
		return nil, err
	}
	return grpc.Dial(target, grpc.WithTransportCredentials(trusted))
}

// begin: verify
func verify(
	agent api.VerificationServiceClient, child, childName, guardian string, claims []string, limit time.Duration,
) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	response, err := agent.Verify(ctx, &api.VerifyRequest{
		Context: &api.Context{Matter: "school-enrolment", Reference: "2026-000123", Official: "clerk-17"},
		Case: &api.Case{
			Key: "our-own-number-9",
			Subjects: []*api.Subject{
				{Slot: "child", Identifier: child, Name: childName},
				{Slot: "guardian", Identifier: guardian},
			},
			Claims: claims, // "child: health.parent related @guardian"; none: all of the matter's
		},
	})
	if err != nil {
		return nil, err
	}
	var decided []string
	for _, claim := range response.Result.Claims {
		decided = append(decided, decide(claim))
	}
	return decided, nil
}

func decide(claim *api.ClaimResult) string {
	switch claim.Status {
	case api.ClaimStatus_CLAIM_STATUS_ANSWERED:
		switch claim.Answer {
		case api.Answer_ANSWER_YES:
			return claim.Claim + "\tconfirmed"
		// A NO and an UNKNOWN reject nobody: a person looks, and the counter explains and corrects the record.
		case api.Answer_ANSWER_NO:
			return claim.Claim + "\tdisagrees\t" + claim.Counter
		default:
			return claim.Claim + "\tby hand\t" + claim.Counter
		}
	case api.ClaimStatus_CLAIM_STATUS_DENIED:
		return claim.Claim + "\tnot allowed\t" + claim.Reason // asking again changes nothing
	case api.ClaimStatus_CLAIM_STATUS_UNAVAILABLE:
		return claim.Claim + "\ttry later\t" + claim.Reason
	default:
		return claim.Claim + "\tby hand\t" // a status that this program does not know yet
	}
}

// end: verify

// begin: errors
func explain(err error) string {
	told := status.Convert(err)
	var reason, field, text string
	// Without details if the call never reached the agent: a deadline of our own, a connection that failed.
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.Reason // a word of docs/errors.md
		case *errdetails.BadRequest:
			field = detail.FieldViolations[0].Field
		case *errdetails.LocalizedMessage:
			text = detail.Message // in Chinese, to show to a person
		}
	}
	return strings.Join([]string{"refused", told.Code().String(), reason, field, text}, "\t")
}

// end: errors

// begin: batch
func verifyBatch(
	agent api.VerificationServiceClient, about *api.Context, cases []*api.Case, each func(*api.CaseResult),
) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel() // ends the stream whatever happens
	stream, err := agent.VerifyBatch(ctx)
	if err != nil {
		return err
	}
	go func() { // the agent reads no faster than results are taken, so both go on at once
		request := &api.VerifyBatchRequest{Context: about}
		for len(cases) > 0 {
			size := 100
			if len(cases) < size {
				size = len(cases)
			}
			request.Cases, cases = cases[:size], cases[size:]
			if stream.Send(request) != nil {
				return // Recv says why
			}
			request = &api.VerifyBatchRequest{}
		}
		_ = stream.CloseSend()
	}()
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, result := range response.Results { // in any order, with our own keys
			each(result)
		}
	}
}

// end: batch

func batch(agent api.VerificationServiceClient, words []string) error {
	count, err := strconv.Atoi(words[0])
	if err != nil {
		return err
	}
	subjects := []*api.Subject{{Slot: "child", Identifier: words[1]}, {Slot: "guardian", Identifier: words[2]}}
	var cases []*api.Case
	for number := 0; number < count; number++ {
		key := fmt.Sprintf("第%d件", number)
		cases = append(cases, &api.Case{Key: key, Subjects: subjects, Claims: words[3:]})
	}
	about := &api.Context{Matter: "school-enrolment", Reference: "2026-000123", Official: "clerk-17"}
	return verifyBatch(agent, about, cases, func(result *api.CaseResult) {
		said := []string{result.Key, result.Reason}
		for _, claim := range result.Claims {
			said = append(said, claim.Answer.String())
		}
		fmt.Println(strings.Join(said, "\t"))
	})
}

func matters(agent api.VerificationServiceClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	response, err := agent.ListMatters(ctx, &api.ListMattersRequest{})
	if err != nil {
		return err
	}
	for _, matter := range response.Matters {
		fmt.Println(matter.Name + "\t" + matter.Title.Zh)
	}
	return nil
}

func run(agent api.VerificationServiceClient, words []string) error {
	switch words[0] {
	case "verify":
		seconds, err := strconv.ParseFloat(words[4], 64)
		if err != nil {
			return err
		}
		limit := time.Duration(seconds * float64(time.Second))
		decided, err := verify(agent, words[1], words[2], words[3], words[5:], limit)
		for _, line := range decided {
			fmt.Println(line)
		}
		return err
	case "batch":
		return batch(agent, words[1:])
	case "matters":
		return matters(agent)
	default:
		return errors.New("no such command: " + words[0])
	}
}

func main() {
	var channel *grpc.ClientConn
	var err error
	switch words := os.Args[1:]; len(words) {
	case 1:
		channel, err = connect(words[0])
	case 3:
		channel, err = connectUnnamed(words[0], words[1], words[2])
	default:
		channel, err = connectTLS(words[0], words[1], words[2], words[3], words[4])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	agent := api.NewVerificationServiceClient(channel)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := run(agent, strings.Split(lines.Text(), "\t")); err != nil {
			fmt.Println(explain(err))
		}
		fmt.Println("done")
	}
}
