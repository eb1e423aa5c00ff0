import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.LocalizedMessage;
import dev.zhiwang.verification.v1.Answer;
import dev.zhiwang.verification.v1.Case;
import dev.zhiwang.verification.v1.CaseResult;
import dev.zhiwang.verification.v1.ClaimResult;
import dev.zhiwang.verification.v1.Context;
import dev.zhiwang.verification.v1.GetBatchResultsRequest;
import dev.zhiwang.verification.v1.GetBatchResultsResponse;
import dev.zhiwang.verification.v1.ListMattersRequest;
import dev.zhiwang.verification.v1.Matter;
import dev.zhiwang.verification.v1.Subject;
import dev.zhiwang.verification.v1.SubmitBatchRequest;
import dev.zhiwang.verification.v1.VerificationServiceGrpc;
import dev.zhiwang.verification.v1.VerificationServiceGrpc.VerificationServiceBlockingStub;
import dev.zhiwang.verification.v1.VerifyRequest;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * A program of a department that asks its agent. It knows nothing of Zhiwang but the packed .proto files.
 *
 * <pre>java Caller TARGET [CA [CERTIFICATE KEY] SERVER_NAME]</pre>
 *
 * Each line of standard input is a command, its words separated by tabs; what comes of it goes to standard output, and
 * ends with the line "done". The parts between "begin" and "end" are the examples in the pack's README. Java 8.
 */
public final class Caller {
    private final VerificationServiceBlockingStub agent;
    private final PrintStream out;

    private Caller(ManagedChannel channel, PrintStream out) {
        this.agent = VerificationServiceGrpc.newBlockingStub(channel);
        this.out = out;
    }

    // begin: connect
    static ManagedChannel connect(String target) {
        return Grpc.newChannelBuilder(target, InsecureChannelCredentials.create()).build();
    }
    // end: connect

    // begin: tls
    static ManagedChannel connectTls(String target, File ca, File certificate, File key, String serverName)
            throws IOException {
        return Grpc.newChannelBuilder(
                        target,
                        TlsChannelCredentials.newBuilder().trustManager(ca).keyManager(certificate, key).build())
                // The agent's certificate names what it is, agent.<city>.zhiwang.internal, not the host on which it runs.
                .overrideAuthority(serverName)
                .build();
    }
    // end: tls

    /** Without a certificate of its own, to see it refused. */
    static ManagedChannel connectUnnamed(String target, File ca, String serverName) throws IOException {
        return Grpc.newChannelBuilder(target, TlsChannelCredentials.newBuilder().trustManager(ca).build())
                .overrideAuthority(serverName)
                .build();
    }

    // begin: verify
    void verify(String child, String childName, String guardian, List<String> claims, long milliseconds) {
        VerifyRequest request = VerifyRequest.newBuilder()
                .setContext(Context.newBuilder()
                        .setMatter("school-enrolment").setReference("2026-000123").setOfficial("clerk-17"))
                .setCase(Case.newBuilder()
                        .setKey("our-own-number-9")
                        .addSubjects(Subject.newBuilder().setSlot("child").setIdentifier(child).setName(childName))
                        .addSubjects(Subject.newBuilder().setSlot("guardian").setIdentifier(guardian))
                        .addAllClaims(claims)) // "child: health.parent related @guardian"; none: all of the matter's
                .build();
        try {
            CaseResult result =
                    agent.withDeadlineAfter(milliseconds, TimeUnit.MILLISECONDS).verify(request).getResult();
            for (ClaimResult claim : result.getClaimsList()) {
                out.println(decide(claim));
            }
        } catch (StatusRuntimeException error) {
            out.println(explain(error));
        }
    }

    static String decide(ClaimResult claim) {
        switch (claim.getStatus()) {
            case CLAIM_STATUS_ANSWERED:
                if (claim.getAnswer() == Answer.ANSWER_YES) {
                    return claim.getClaim() + "\tconfirmed";
                }
                // A NO and an UNKNOWN reject nobody: a person looks, and the counter explains and corrects the record.
                String word = claim.getAnswer() == Answer.ANSWER_NO ? "disagrees" : "by hand";
                return claim.getClaim() + "\t" + word + "\t" + claim.getCounter();
            case CLAIM_STATUS_DENIED:
                return claim.getClaim() + "\tnot allowed\t" + claim.getReason(); // asking again changes nothing
            case CLAIM_STATUS_UNAVAILABLE:
                return claim.getClaim() + "\ttry later\t" + claim.getReason();
            default:
                return claim.getClaim() + "\tby hand\t"; // a status that this program does not know yet
        }
    }
    // end: verify

    // begin: errors
    static String explain(StatusRuntimeException error) {
        String reason = "";
        String field = "";
        String text = "";
        // Without details if the call never reached the agent: a deadline of our own, a connection that failed.
        com.google.rpc.Status status = StatusProto.fromThrowable(error);
        try {
            for (Any detail : status.getDetailsList()) {
                if (detail.is(ErrorInfo.class)) {
                    reason = detail.unpack(ErrorInfo.class).getReason(); // a word of docs/errors.md
                } else if (detail.is(BadRequest.class)) {
                    field = detail.unpack(BadRequest.class).getFieldViolations(0).getField();
                } else if (detail.is(LocalizedMessage.class)) {
                    text = detail.unpack(LocalizedMessage.class).getMessage(); // in Chinese, to show to a person
                }
            }
        } catch (InvalidProtocolBufferException broken) {
            reason = "";
        }
        return String.join("\t", "refused", error.getStatus().getCode().name(), reason, field, text);
    }
    // end: errors

    // begin: batch
    void verifyBatch(Context context, List<Case> cases) {
        SubmitBatchRequest request = SubmitBatchRequest.newBuilder().setContext(context).addAllCases(cases).build();
        String batch = agent.withDeadlineAfter(60, TimeUnit.SECONDS).submitBatch(request).getBatchId();
        String token = "";
        do { // each call waits up to two seconds for the first result, so there is no need to sleep
            GetBatchResultsResponse page = agent.withDeadlineAfter(60, TimeUnit.SECONDS)
                    .getBatchResults(GetBatchResultsRequest.newBuilder()
                            .setBatchId(batch).setPageSize(100).setPageToken(token).build());
            page.getResultsList().forEach(this::print); // in any order, with our own keys
            token = page.getNextPageToken();
        } while (!token.isEmpty());
    }
    // end: batch

    private void print(CaseResult result) {
        List<String> words = new ArrayList<>(Arrays.asList(result.getKey(), result.getReason()));
        result.getClaimsList().forEach(claim -> words.add(claim.getAnswer().name()));
        out.println(String.join("\t", words));
    }

    private void batch(int count, String child, String guardian, List<String> claims) {
        Case.Builder one = Case.newBuilder()
                .addSubjects(Subject.newBuilder().setSlot("child").setIdentifier(child))
                .addSubjects(Subject.newBuilder().setSlot("guardian").setIdentifier(guardian))
                .addAllClaims(claims);
        List<Case> cases = new ArrayList<>();
        for (int number = 0; number < count; number++) {
            cases.add(one.clone().setKey("第" + number + "件").build());
        }
        verifyBatch(Context.newBuilder()
                .setMatter("school-enrolment").setReference("2026-000123").setOfficial("clerk-17").build(), cases);
    }

    private void matters() {
        ListMattersRequest request = ListMattersRequest.getDefaultInstance();
        for (Matter matter : agent.withDeadlineAfter(60, TimeUnit.SECONDS).listMatters(request).getMattersList()) {
            out.println(matter.getName() + "\t" + matter.getTitle().getZh());
        }
    }

    private void run(String[] words) {
        List<String> rest = Arrays.asList(words);
        try {
            switch (words[0]) {
                case "verify":
                    long milliseconds = (long) (Double.parseDouble(words[4]) * 1000);
                    verify(words[1], words[2], words[3], rest.subList(5, words.length), milliseconds);
                    break;
                case "batch":
                    batch(Integer.parseInt(words[1]), words[2], words[3], rest.subList(4, words.length));
                    break;
                case "matters":
                    matters();
                    break;
                default:
                    throw new IllegalArgumentException(words[0]);
            }
        } catch (StatusRuntimeException error) {
            out.println(explain(error));
        }
        out.println("done");
    }

    private static ManagedChannel channel(String[] words) throws IOException {
        switch (words.length) {
            case 1:
                return connect(words[0]);
            case 3:
                return connectUnnamed(words[0], new File(words[1]), words[2]);
            default:
                return connectTls(words[0], new File(words[1]), new File(words[2]), new File(words[3]), words[4]);
        }
    }

    public static void main(String[] arguments) throws IOException {
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        ManagedChannel channel = channel(arguments);
        Caller caller = new Caller(channel, out);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            caller.run(line.split("\t", -1));
        }
        channel.shutdownNow();
    }
}
